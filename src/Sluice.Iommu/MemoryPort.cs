using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Sluice.Iommu;

/// <summary>
/// One agent's way through a unit into memory: a DMA of any length in one call, which always leaves its port. Used by
/// one thread at a time.
/// </summary>
/// <typeparam name="TMemory">
/// What lies behind the unit: a machine's memory, or the host's own. As a struct it costs nothing per access.
/// </typeparam>
/// <remarks>
/// Allocates nothing and takes no lock. The unit's invalidations wait for one piece at most: a DMA is split where a run
/// ends, and at every multiple of 4 KiB.
/// </remarks>
public sealed class MemoryPort<TMemory>
    where TMemory : IPhysicalMemory
{
    private const int PieceLog2 = 12;
    private const int MostInOrder = 64;
    private readonly IRemappingUnit _unit;
    private readonly TMemory _memory;

    /// <summary>Connects an agent.</summary>
    /// <param name="unit">What the agent's requests pass.</param>
    /// <param name="memory">Where they go. Whoever owns it keeps it until the last request is over.</param>
    /// <param name="name">The agent, for messages; empty for a number.</param>
    public MemoryPort(IRemappingUnit unit, TMemory memory, string name = "")
    {
        ArgumentNullException.ThrowIfNull(unit);
        (_unit, _memory, Port) = (unit, memory, unit.Connect(name));
    }

    /// <summary>Its way into the unit, with the counters.</summary>
    public TranslationPort Port { get; }

    /// <summary>The device reads memory.</summary>
    /// <param name="request">
    /// Sender and first byte. It asks for reading whatever its access says; an access that also writes must have both
    /// rights. No translation request: nothing would be moved.
    /// </param>
    /// <param name="destination">What is read; what was not moved stays as it is.</param>
    /// <returns>How far it came. A refusal is recorded in the unit or counted there.</returns>
    /// <exception cref="ArgumentException">The source is none that can be below such a unit.</exception>
    public DmaProgress Read(in DmaRequest request, Span<byte> destination)
    {
        int done = 0;
        while (done < destination.Length)
        {
            DmaRequest piece = Piece(request, done, DmaAccess.Read);
            Span<byte> rest = destination.Slice(done, LengthOf(piece, destination.Length - done));
            using DmaScope scope = Port.Begin();
            if (!_unit.TryTranslate(Port, in piece, out PhysicalRun run)) { return new(done, DmaEnd.Refused); }
            if (run.Length < (ulong)rest.Length) { rest = rest[..(int)run.Length]; }
            if (!_memory.TryRead(run.First, rest)) { return new(done, DmaEnd.NoMemory); }
            done += rest.Length;
        }
        return new(done, DmaEnd.Completed);
    }

    /// <summary>
    /// The device writes memory. A multiple of 8 up to 64 bytes at an 8-byte boundary becomes ascending 64-bit stores:
    /// who sees the last word sees them all. An interrupt message is not sent so but by <see
    /// cref="IRemappingUnit.TryRemapInterrupt"/>.
    /// </summary>
    /// <param name="request">
    /// Sender and first byte. It asks for writing whatever its access says; an access that also reads must have both
    /// rights. No translation request: nothing would be moved.
    /// </param>
    /// <param name="source">What is written.</param>
    /// <returns>How far it came. A refusal is recorded in the unit or counted there.</returns>
    /// <exception cref="ArgumentException">The source is none that can be below such a unit.</exception>
    public DmaProgress Write(in DmaRequest request, ReadOnlySpan<byte> source)
    {
        int done = 0;
        while (done < source.Length)
        {
            DmaRequest piece = Piece(request, done, DmaAccess.Write);
            ReadOnlySpan<byte> rest = source.Slice(done, LengthOf(piece, source.Length - done));
            using DmaScope scope = Port.Begin();
            if (!_unit.TryTranslate(Port, in piece, out PhysicalRun run)) { return new(done, DmaEnd.Refused); }
            if (run.Length < (ulong)rest.Length) { rest = rest[..(int)run.Length]; }
            int stored = Store(run.First, rest);
            done += stored;
            if (stored != rest.Length) { return new(done, DmaEnd.NoMemory); }
        }
        return new(done, DmaEnd.Completed);
    }

    private int Store(PhysicalAddress address, ReadOnlySpan<byte> bytes)
    {
        if (bytes.Length > MostInOrder || ((address.Value | (uint)bytes.Length) & 7) != 0)
        {
            return _memory.TryWrite(address, bytes) ? bytes.Length : 0;
        }
        int stored = 0;
        foreach (ulong word in MemoryMarshal.Cast<byte, ulong>(bytes))
        {
            if (!_memory.TryWrite64(address + (ulong)stored, word)) { break; }
            stored += sizeof(ulong);
        }
        return stored;
    }

    private static DmaRequest Piece(in DmaRequest request, int done, DmaAccess access)
    {
        if (request.Kind == DmaRequestKind.TranslationRequest)
        {
            throw new ArgumentException("a translation request moves no bytes", nameof(request));
        }
        return request with { Address = request.Address + (ulong)done, Access = request.Access | access };
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int LengthOf(in DmaRequest piece, int rest) =>
        Math.Min(rest, (1 << PieceLog2) - (int)piece.Address.OffsetIn(PieceLog2));
}
