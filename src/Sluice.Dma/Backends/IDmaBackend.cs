namespace Sluice.Dma;

/// <summary>
/// What makes memory reachable for one device. A map register is a page of reachability: nothing at all (identity), a
/// remapping entry, or a page of a pool that data is copied through. The adapter above is the same for all three.
/// </summary>
/// <remarks>
/// Called from any thread, for different mappings at once, never inside the adapter's gate. Failures are results.
/// </remarks>
internal interface IDmaBackend
{
    /// <summary>As a report would name it.</summary>
    string Name { get; }

    /// <summary>Whether refused DMAs are ever reported, so that times are worth keeping.</summary>
    bool ReportsFaults { get; }

    /// <summary>What it does for its device and why it was chosen; the adapter adds its map registers.</summary>
    DmaCapabilities Capabilities { get; }

    /// <summary>
    /// Bytes of transfers that were copied since the start, each way they went: to the device at map, from it at unmap.
    /// </summary>
    long BouncedBytes { get; }

    /// <summary>
    /// The adapter's place in the queue of what it shares with other adapters; null when it shares nothing.
    /// </summary>
    BounceTicket? Ticket => null;

    /// <summary>
    /// Makes <c>mapping.Transfer</c> reachable in its direction and no more, and writes its elements through
    /// <paramref name="list"/>.
    /// </summary>
    /// <param name="mapping">The record, owned by the caller; back-end state goes into it.</param>
    /// <param name="list">Takes the pieces in order.</param>
    /// <param name="footprint">What it takes up on the bus.</param>
    /// <param name="culprit">With <see cref="DmaFailure.NotABuffer"/> or <see cref="DmaFailure.Unreachable"/>: the
    /// page.</param>
    /// <returns><see cref="DmaFailure.None"/>, or why not; then nothing is left mapped.</returns>
    DmaFailure TryMap(Mapping mapping, ref ElementBuilder list, out Footprint footprint, out PhysicalAddress culprit);

    /// <summary>
    /// Ends what <see cref="TryMap"/> made reachable, by the policy; data is where the driver looks for it on return.
    /// </summary>
    /// <returns>False when the unit did not confirm: the device may reach the pages for ever, and they must never be
    /// reused.</returns>
    bool Unmap(Mapping mapping);

    /// <summary>
    /// Whether a transfer that found resources short could be mapped if every other were put. Where that is not known,
    /// yes: the adapter then waits as long as anything of its own is mapped.
    /// </summary>
    /// <param name="transfer">The transfer.</param>
    /// <param name="setAside">What the adapter's own reservations hold: no put brings that back.</param>
    bool CouldEver(in Transfer transfer, ReadOnlySpan<BackendReservation> setAside) => true;

    /// <summary>
    /// The transfer will never be unmapped: what it and its reservation hold to copy through stays taken until
    /// <see cref="Reclaim"/>.
    /// </summary>
    void Abandon(Mapping mapping)
    {
    }

    /// <summary>
    /// The leak of this mapping is over, after <see cref="Forget"/>: what <see cref="Abandon"/> kept may be used again.
    /// Whoever waits for it is woken by the caller.
    /// </summary>
    void Reclaim(Mapping mapping)
    {
    }

    /// <summary>
    /// Sets aside everything that one transfer of up to <paramref name="pages"/> pages at a time needs: logical
    /// addresses, page tables, pages to copy through.
    /// </summary>
    /// <remarks>
    /// When <see cref="BackendState.Reservation"/> is set, <see cref="TryMap"/> uses only that: it allocates nothing
    /// and never answers <see cref="DmaFailure.OutOfResources"/>, and <see cref="Unmap"/> gives back to it.
    /// </remarks>
    DmaFailure TryReserve(int pages, out BackendReservation? reservation);

    /// <summary>Gives a reservation back. Nothing of it is mapped.</summary>
    void Unreserve(BackendReservation reservation);

    /// <summary>
    /// As <see cref="TryReserve"/>, for the first request in the adapter's queue: where it is short of what other
    /// adapters hold, it has its turn among theirs (<see cref="Ticket"/>).
    /// </summary>
    DmaFailure TryReserveInTurn(int pages, out BackendReservation? reservation) => TryReserve(pages, out reservation);

    /// <summary>Whether that many pages could be reserved if everything else were given back.</summary>
    /// <param name="pages">How many.</param>
    /// <param name="setAside">What the adapter's own reservations hold and keep.</param>
    bool CouldEverReserve(int pages, ReadOnlySpan<BackendReservation> setAside) => pages <= MostRegisters;

    /// <summary>The most pages that one transfer could ever be given at once: what a driver may plan with.</summary>
    int MostRegisters => int.MaxValue;

    /// <summary>Takes and maps zeroed memory for long use, one logical run.</summary>
    /// <param name="request">What is wanted; its bounds lie within the device's reach.</param>
    /// <param name="memory">The pages and their logical address.</param>
    DmaFailure TryAllocateCommon(in CommonRequest request, out CommonMemory memory);

    /// <summary>As <see cref="TryAllocateCommon"/>, over frames that somebody else keeps.</summary>
    /// <param name="request">What is wanted.</param>
    /// <param name="pages">The frames, in order.</param>
    /// <param name="memory">The pages and their logical address.</param>
    /// <param name="culprit">The page that stands in the way, where one does.</param>
    /// <returns><see cref="DmaFailure.NotSupported"/> when rights are asked for that nothing enforces.</returns>
    DmaFailure TryMapCommon(in CommonRequest request, PhysicalAddress[] pages, out CommonMemory memory,
        out PhysicalAddress culprit);

    /// <summary>Unmaps a common buffer so that no device reaches it, then gives its frames back unless they are
    /// borrowed.</summary>
    /// <returns>False when the unit did not confirm; then the frames are kept.</returns>
    bool FreeCommon(in CommonMemory memory);

    /// <summary>
    /// The adapter is gone: no DMA of the device passes any more. With <paramref name="leaked"/> the logical ranges
    /// that are still mapped stay taken until <see cref="Release"/>.
    /// </summary>
    void Close(bool leaked);

    /// <summary>All leaks are over: whatever <see cref="Close"/> kept may go.</summary>
    void Release();

    /// <summary>The domain the device is in; null where nothing remaps.</summary>
    DmaDomain? Place => null;

    /// <summary>The domain it goes back to.</summary>
    DmaDomain? Home => null;

    /// <summary>
    /// Moves the device to another domain, through blocked. Nothing is mapped for it; under the domain lock.
    /// </summary>
    void Move(DmaDomain to)
    {
    }

    /// <summary>
    /// Makes everything unreachable that was unmapped before this call, or withdraws its pages where no unit confirms
    /// it. Nothing where unmapping has done so already.
    /// </summary>
    void Flush()
    {
    }

    /// <summary>
    /// Blocks the device now, and makes everything unreachable that was unmapped before. Mappings can still be undone.
    /// Nothing where no unit could. Under the domain lock.
    /// </summary>
    void Revoke();

    /// <summary>
    /// Before a leak's memory is used again, where others are in the domain, and after <see cref="Close"/>: takes it
    /// out of the reach of whoever else is or was in it. False when the unit did not confirm. Under the domain lock.
    /// </summary>
    bool Forget(Mapping mapping) => true;
}
