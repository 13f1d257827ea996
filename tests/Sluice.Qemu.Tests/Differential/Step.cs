using Sluice.Formats.Vtd;

namespace Sluice.Qemu.Tests.Differential;

/// <summary>
/// One thing that happens to a machine. Plain data: a program is a list of them, and any part of it can be left out.
/// </summary>
internal abstract record Step
{
    /// <summary>The processor stores a word in memory.</summary>
    public sealed record Store(ulong Address, ulong Value, string What) : Step
    {
        public override string ToString() => $"store 0x{Value:X16} at 0x{Address:X}: {What}";
    }

    /// <summary>The processor writes a register of the unit.</summary>
    public sealed record Register(uint Offset, ulong Value, bool IsWide, string What) : Step
    {
        public override string ToString() => $"write{(IsWide ? 64 : 32)} 0x{Value:X} to register 0x{Offset:X}: {What}";
    }

    /// <summary>The processor puts descriptors into the queue and moves the tail.</summary>
    public sealed record Queue(uint Tail, InvalidationDescriptor[] Descriptors) : Step
    {
        public override string ToString() => $"queue from 0x{Tail:X}: {string.Join("; ", Descriptors.Select(Show))}";

        private static string Show(InvalidationDescriptor d) => $"{d} (0x{d.High:X16}_{d.Low:X16})";
    }

    /// <summary>Steps that make sense only together; compared after the last, kept or left out as a whole.</summary>
    public sealed record Group(string What, Step[] Steps) : Step
    {
        public override string ToString() =>
            $"{What}:{string.Concat(Steps.Select(static step => $"\n        {step}"))}";
    }

    /// <summary>A device moves bytes between its buffer and a logical address.</summary>
    public sealed record Dma(int Device, bool ToMemory, ulong Address, int BufferOffset, int Length) : Step
    {
        public override string ToString() =>
            $"device {Device} {(ToMemory ? "writes" : "reads")} {Length} bytes at 0x{Address:X},"
            + $" buffer 0x{BufferOffset:X}";
    }
}
