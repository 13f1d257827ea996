using System.Buffers.Binary;
using System.Globalization;

namespace Sluice.Qemu.Tests.Devices;

/// <summary>What a program's steps work on, one on each machine.</summary>
internal sealed record DeviceRig(DeviceSide Side, NvmeClient Nvme);

/// <summary>One step: a few commands that make sense only together.</summary>
internal sealed record DeviceStep(string What, Action<DeviceRig> Do);

/// <summary>
/// Turns a seed into a program for edu and NVMe. It keeps to what both define; docs/differences.md lists what that
/// leaves out.
/// </summary>
internal sealed partial class DeviceProgram
{
    private static readonly ulong[] Edus = [DeviceSide.NarrowEdu, DeviceSide.WideEdu, DeviceSide.SharingEdu];
    private static readonly int[] EduSlots = [4, 5, 10];
    private readonly Random _random;
    private readonly List<DeviceStep> _steps = [];

    private DeviceProgram(int seed) => _random = new(seed);

    public static IReadOnlyList<DeviceStep> Create(int seed)
    {
        DeviceProgram program = new(seed);
        program.Build();
        return program._steps;
    }

    /// <summary>Runs steps from a known state to a known end; the transcript is what is compared.</summary>
    public static void Run(DeviceSide side, IReadOnlyList<DeviceStep> steps)
    {
        DeviceRig rig = new(side, new(side));
        PrepareEdu(side);
        PrepareNvme(rig);
        side.TakeWires();
        foreach (DeviceStep step in steps) { step.Do(rig); }
        FinishNvme(rig);
        foreach (ulong bar in Edus) { EduDma(side, bar, 0x4_0000, Memory + 0x8000, 0x1000, 3); }
        side.Log("memory", side.Memory(Memory, MemoryBytes));
        side.Log("wires at the end", side.TakeWires());
    }

    private void Build()
    {
        int length = _random.Next(15, 45);
        while (_steps.Count < length)
        {
            switch (_random.Next(100))
            {
                case < 12: EduRegister(); break;
                case < 20: EduTransfer(); break;
                case < 27: EduInterrupt(); break;
                case < 31: EduConfiguration(); break;
                case < 60: Transfer(); break;
                case < 66: Refusal(); break;
                case < 74: Feature(); break;
                case < 82: QueueManagement(); break;
                case < 90: InterruptMask(); break;
                case < 94: Burst(); break;
                case < 97: BadDoorbell(); break;
                default: Reset(); break;
            }
        }
    }

    private void Add(string what, Action<DeviceRig> step) => _steps.Add(new(what, step));

    private T Pick<T>(params ReadOnlySpan<T> among) => among[_random.Next(among.Length)];

    private bool Once(int in_) => _random.Next(in_) == 0;

    private static string Text(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);
}
