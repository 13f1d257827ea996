using System.CommandLine;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;

namespace Sluice.Cli.Bench;

/// <summary><c>sluice bench</c>: measures the rows of the speed table.</summary>
internal static class BenchCommand
{
    /// <summary>The verb.</summary>
    public static Command Create(Terminal terminal)
    {
        Argument<string[]> names = new("NAME")
        {
            Description = "Rows to measure, or the beginnings of their names; all without.",
            Arity = ArgumentArity.ZeroOrMore,
        };
        Option<bool> json = new("--json")
        {
            Description = "One JSON document on standard output; its fields are a contract.",
        };
        Option<bool> list = new("--list") { Description = "Only list the rows." };
        Command command = new("bench", """
            Measures what translating, mapping and transferring cost, each beside a baseline in the same run.

            Examples:
              sluice bench                      the whole table
              sluice bench translate list       only rows whose names begin so
              sluice bench --json > bench.json  for scripts; ratio is baseline time over ours

            Exit status: 0 measured, whatever the figures; 1 usage or tool error.
            """)
        {
            names, json, list,
        };
        command.SetAction(result => Execute(
            terminal.Output, result.GetValue(names) ?? [], result.GetValue(json), result.GetValue(list)));
        return command;
    }

    private static int Execute(TextWriter output, string[] names, bool json, bool list)
    {
        IReadOnlyList<BenchEntry> entries = Select(names);
        if (list && json)
        {
            output.WriteLine(JsonSerializer.Serialize(
                new BenchListDocument([.. entries.Select(static entry => entry.Name)]),
                BenchJson.Default.BenchListDocument));
            return ExitCode.Clean;
        }
        if (list)
        {
            foreach (BenchEntry entry in entries) { output.WriteLine(entry.Name); }
            return ExitCode.Clean;
        }
        OpenFiles.RequireRoom();
        List<BenchResult> results = [];
        if (!json) { output.WriteLine(Row("row", "ours", "p99", "B/op", "baseline", "", "ratio", "goal")); }
        foreach (BenchEntry entry in entries)
        {
            using BenchCase work = entry.Create();
            BenchResult result = BenchRunner.Measure(work);
            results.Add(result);
            if (!json) { Print(output, result); }
        }
        if (json)
        {
            output.WriteLine(JsonSerializer.Serialize(
                new BenchDocument(DescribeMachine(), results), BenchJson.Default.BenchDocument));
        }
        return ExitCode.Clean;
    }

    private static IReadOnlyList<BenchEntry> Select(string[] names)
    {
        foreach (string name in names)
        {
            if (!BenchCatalog.All.Any(entry => entry.Name.StartsWith(name, StringComparison.Ordinal)))
            {
                throw new CommandException($"no row begins with '{name}'; see 'sluice bench --list'");
            }
        }
        return names.Length == 0
            ? BenchCatalog.All
            : [.. BenchCatalog.All.Where(entry =>
                names.Any(name => entry.Name.StartsWith(name, StringComparison.Ordinal)))];
    }

    private static void Print(TextWriter output, BenchResult result)
    {
        output.WriteLine(Row(
            result.Name, Time(result.NsPerOp), Time(result.P99),
            result.AllocatedBytesPerOp.ToString(CultureInfo.InvariantCulture),
            Time(result.Baseline.NsPerOp), result.Baseline.Name, Number(result.Ratio), GoalOf(result)));
        if (result.Anchor is { } anchor)
        {
            output.WriteLine($"{"",-26} published elsewhere: {Time(anchor.NsPerOp)}, {anchor.Name}");
        }
        if (result.CopyOrMap is { } table) { Print(output, table); }
    }

    /// <summary>Every part of the row's goal, and whether all are met: <c>≤ 9.0 µs, ≤ 600 B met</c>.</summary>
    internal static string GoalOf(BenchResult result)
    {
        List<string> parts = [];
        if (result.Goal?.NsPerOp is { } most) { parts.Add($"≤ {Time(most)}"); }
        if (result.Goal?.Ratio is { } least) { parts.Add($"≥ {Number(least)}"); }
        if (result.Goal?.AllocatedBytesPerOp is { } bytes)
        {
            parts.Add(string.Create(CultureInfo.InvariantCulture, $"≤ {bytes} B"));
        }
        return parts.Count == 0 ? "" : $"{string.Join(", ", parts)} {(result.MeetsGoal ? "met" : "missed")}";
    }

    private static void Print(TextWriter output, BenchCopyOrMap table)
    {
        output.WriteLine($"{"bytes",14} {"copy",10} {"strict",10} {"deferred",10}");
        foreach (BenchCopyOrMapLine line in table.Lines)
        {
            output.WriteLine(string.Create(CultureInfo.InvariantCulture,
                $"{line.Bytes,14} {Time(line.CopyNs),10} {Time(line.MapStrictNs),10} {Time(line.MapDeferredNs),10}"));
        }
        output.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{"",14} break-even: {table.BreakEvenStrictBytes} bytes strict, {table.BreakEvenDeferredBytes} deferred"));
    }

    private static string Row(
        string name, string ours, string p99, string bytes, string baseline, string what, string ratio, string goal) =>
        $"{name,-26} {ours,10} {p99,10} {bytes,5} {baseline,10} {what,-34} {ratio,7}  {goal}".TrimEnd();

    private static string Time(double nanoseconds) => nanoseconds switch
    {
        >= 1e6 => string.Create(CultureInfo.InvariantCulture, $"{nanoseconds / 1e6:0.00} ms"),
        >= 1e4 => string.Create(CultureInfo.InvariantCulture, $"{nanoseconds / 1e3:0.0} µs"),
        _ => string.Create(CultureInfo.InvariantCulture, $"{nanoseconds:0.0} ns"),
    };

    private static string Number(double value) => value.ToString("0.00", CultureInfo.InvariantCulture);

    private static BenchMachine DescribeMachine()
    {
        const string Cpu = "/proc/cpuinfo";
        string processor = !File.Exists(Cpu) ? "unknown" : File.ReadLines(Cpu)
            .FirstOrDefault(static line => line.StartsWith("model name", StringComparison.Ordinal))
            ?.Split(':')[^1].Trim() ?? "unknown";
        return new(
            processor,
            Environment.ProcessorCount,
            RuntimeInformation.OSDescription,
            RuntimeInformation.FrameworkDescription);
    }
}
