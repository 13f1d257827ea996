namespace Sluice.Dma;

/// <summary>
/// What a client names its buffers and mappings by: a number without meaning outside its session, never reused within
/// it for 2^32 turns of its slot.
/// </summary>
/// <param name="Value">Slot in the low half, turn in the high half; 0 is no handle.</param>
public readonly record struct DmaHandle(ulong Value)
{
    internal int Slot => (int)(uint)Value;

    internal static DmaHandle From(int slot, uint turn) => new(((ulong)turn << 32) | (uint)slot);
}
