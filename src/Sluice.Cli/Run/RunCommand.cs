using System.CommandLine;
using Sluice.Machines;
using Sluice.Remapping;

namespace Sluice.Cli.Run;

/// <summary><c>sluice run</c>: its options, their checks, and its help.</summary>
internal static class RunCommand
{
    /// <summary>The verb.</summary>
    public static Command Create(Terminal terminal)
    {
        Option<string?> disk = new("--disk")
        {
            HelpName = "FILE", Description = "The disk image to read: any file. Without it, 64 MiB are made for this run.",
        };
        Option<string> machine = new("--machine")
        {
            HelpName = "sim|qemu",
            Description = "The machine: sim, the in-process PC; qemu, QEMU's q35 with its VT-d, NVMe and edu.",
            DefaultValueFactory = static _ => "sim",
        };
        Option<string> iommu = new("--iommu")
        {
            HelpName = "vtd|none",
            Description = "The remapping unit between devices and memory.",
            DefaultValueFactory = static _ => "vtd",
        };
        Option<string> policy = new("--policy")
        {
            HelpName = "strict|deferred|shadow",
            Description = "When memory that a driver takes back becomes unreachable: "
                + "at once, within milliseconds, or never mapped (copied).",
            DefaultValueFactory = static _ => "strict",
        };
        Option<string?> memory = new("--memory")
        {
            HelpName = "SIZE", Description = "The machine's memory, as 512M or 4GiB. [default: 512M; with --bounce 4G]",
        };
        Option<bool> bounce = new("--bounce")
        {
            Description = "A controller of 32 address bits and buffers above 4 GiB: without a unit data is copied, "
                + "behind one it is not.",
        };
        Option<string?> rogue = new("--rogue")
        {
            HelpName = "all|CASE,…",
            Description = "Afterwards let devices and drivers misbehave: " + string.Join(' ', RogueCases.All.Select(RogueCases.Name)) + ".",
        };
        Option<bool> json = new("--json") { Description = "One JSON document on standard output; its fields are a contract." };
        Command command = new("run", """
            Reads a whole disk through the NVMe driver, the DMA DDI and a remapping unit, and says what the DMA cost.

            Examples:
              sluice run --disk disk.img                    read it, print its SHA-256
              sluice run --disk disk.img --policy deferred  the same, faster, with a window of exposure
              sluice run --rogue all                        watch nine kinds of bad DMA being blocked and explained
              sluice run --rogue kernel,stale --iommu none  watch the harm they do without a unit
              sluice run --iommu none --bounce              what a 32-bit controller costs where nothing remaps
              sluice run --machine qemu --rogue all         the same drivers on QEMU's hardware, QEMU's VT-d as the judge
              sluice run --disk disk.img --json | jq .dma   for scripts

            Exit status: 0 done and, with --rogue, all blocked, logged and harmless; 1 usage or tool error; 2 some were not.
            """)
        {
            disk, machine, iommu, policy, memory, bounce, rogue, json,
        };
        command.SetAction(result => RunJob.Execute(terminal, new RunOptions(
            result.GetValue(disk),
            ParseMachine(result.GetRequiredValue(machine)),
            IommuWords.Parse(result.GetRequiredValue(iommu)),
            ParsePolicy(result.GetRequiredValue(policy)),
            ParseMemory(result.GetValue(memory), result.GetValue(bounce)),
            result.GetValue(bounce),
            result.GetValue(rogue) is { } words ? RogueCases.Parse(words) : [],
            result.GetValue(json))));
        return command;
    }

    private static MachineKind ParseMachine(string word) => word switch
    {
        "sim" => MachineKind.Sim,
        "qemu" => MachineKind.Qemu,
        _ => throw new CommandException($"--machine does not know '{word}'; use sim or qemu"),
    };

    private static InvalidationPolicy ParsePolicy(string word) => word switch
    {
        "strict" => InvalidationPolicy.Strict,
        "deferred" => InvalidationPolicy.Deferred,
        "shadow" => InvalidationPolicy.Shadow,
        _ => throw new CommandException($"--policy does not know '{word}'; use strict, deferred or shadow"),
    };

    private static ulong ParseMemory(string? word, bool bounce)
    {
        word ??= bounce ? "4G" : "512M";
        if (!ByteSize.TryParse(word, out ulong bytes))
        {
            throw new CommandException(
                $"--memory '{word}' is not a size; write bytes or a number with K, M, G or T, as 512M");
        }
        return !bounce || bytes >= MachineMap.SplitThreshold
            ? bytes
            : throw new CommandException(
                $"--memory {word} leaves nothing above 4 GiB to bounce; use at least "
                + $"{MachineMap.SplitThreshold >> 20}M, or leave --bounce out");
    }
}
