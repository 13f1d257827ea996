using System.Runtime.CompilerServices;

namespace Sluice.Dma;

/// <summary>
/// An adapter's channel on loan: nobody else has it meanwhile, and a number of map registers is set aside for it, so
/// that a long buffer can be transferred in pieces, as many bytes at a time as the registers hold.
/// </summary>
/// <remarks>
/// For each piece: map, let the device work, flush. One piece at a time never lacks anything; several may be mapped at
/// once while registers and memory last. The channel itself may be given up before its registers
/// (<see cref="Release"/>), so that the next driver gets in while this one's last piece is on its way. Safe from any
/// thread; of two ends exactly one counts.
/// </remarks>
public sealed class DmaChannel : IDisposable
{
    internal DmaChannel(DmaAdapter adapter, DmaReservation reservation) =>
        (Adapter, Reservation, FreeRegisters) = (adapter, reservation, reservation.MapRegisters);

    // Inside the adapter's gate.
    internal int FreeRegisters;
    internal bool Released;
    internal bool Ended;

    /// <summary>Whose channel it is.</summary>
    public DmaAdapter Adapter { get; }

    /// <summary>Pages that may be mapped through it at once.</summary>
    public int MapRegisters => Reservation.MapRegisters;

    internal DmaReservation Reservation { get; }

    /// <summary>
    /// Makes as many bytes reachable as the free map registers and the list allow, from the first on.
    /// </summary>
    /// <param name="mdl">The buffer; it may be a chain.</param>
    /// <param name="offset">The first byte, counted from the MDL's start.</param>
    /// <param name="length">Bytes that are left to transfer, at least 1.</param>
    /// <param name="direction">Which way the data goes: it becomes the device's right.</param>
    /// <param name="list">The elements; give them to <see cref="Flush"/>.</param>
    /// <param name="mapped">Bytes in them: all, or fewer.</param>
    /// <param name="maximumElements">The longest list wanted, at least 1.</param>
    /// <param name="tag">Any number that helps to recognise the request in a report.</param>
    /// <param name="site">Filled in by the compiler.</param>
    /// <param name="file">Filled in by the compiler.</param>
    /// <returns>None, or why nothing is mapped. <see cref="DmaFailure.OutOfResources"/> when all registers are in
    /// use.</returns>
    /// <exception cref="ArgumentOutOfRangeException">The range is empty or passes the buffer.</exception>
    /// <exception cref="ObjectDisposedException">The channel was given back.</exception>
    public DmaFailure TryMap(
        Mdl mdl, uint offset, uint length, DmaDirection direction, out ScatterGatherLease list, out uint mapped,
        int maximumElements = int.MaxValue, uint tag = 0,
        [CallerMemberName] string site = "", [CallerFilePath] string file = "")
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(maximumElements, 1);
        return Adapter.TryMapPiece(
            this, mdl, offset, length, direction, maximumElements, new(tag, site, file), out list, out mapped);
    }

    /// <summary>
    /// Ends a piece: the device can no longer reach it (by the policy in force), its data is in the buffer, and its
    /// registers are free for the next.
    /// </summary>
    /// <exception cref="InvalidOperationException">It was already flushed, or belongs to another adapter.</exception>
    public void Flush(
        in ScatterGatherLease list, [CallerMemberName] string site = "", [CallerFilePath] string file = "") =>
        Adapter.PutScatterGatherList(list, site, file);

    /// <summary>Lets the next in, and keeps the map registers. Harmless twice.</summary>
    public void Release() => Adapter.Release(this);

    /// <summary>Gives channel and map registers back. Harmless twice.</summary>
    /// <exception cref="InvalidOperationException">Pieces are still mapped: flush them first.</exception>
    public void Dispose() => Adapter.End(this);
}
