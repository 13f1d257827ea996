namespace Sluice;

/// <summary>What a page frame is used for. Only <see cref="Buffer"/> frames may ever enter a device's domain.</summary>
public enum FrameKind : byte
{
    /// <summary>No memory, or memory the firmware keeps.</summary>
    Absent,

    /// <summary>In nobody's use.</summary>
    Free,

    /// <summary>Buffers and common buffers: what drivers let devices reach.</summary>
    Buffer,

    /// <summary>
    /// Page tables, root and context tables, invalidation queues: what the remapping unit itself reads.
    /// </summary>
    UnitTable,

    /// <summary>Kernel code, interrupt table, system-call table.</summary>
    Kernel,

    /// <summary>
    /// Perhaps still reachable by a device that should no longer: never handed out again until released or reclaimed.
    /// </summary>
    Quarantined,

    /// <summary>
    /// A buffer that its owner gave back while something unmapped was still within reach of devices: free with the
    /// flush (<see cref="IFrameAllocator.HoldFreed"/>), and nobody's until then.
    /// </summary>
    AwaitsFlush,
}

/// <summary>
/// Knows whether devices may still reach what was unmapped: the operating-system side of the remapping units.
/// </summary>
public interface IFlushGate
{
    /// <summary>
    /// Whether anything unmapped by now may still be within reach. Called inside the allocator's lock: it takes no
    /// lock, waits for nobody, and does not call the allocator.
    /// </summary>
    bool IsPending { get; }

    /// <summary>
    /// Memory has run out while frames await a flush: makes it happen. Called outside the allocator's lock; it may wait
    /// as long as a unit may take, and never throws.
    /// </summary>
    void Flush();
}

/// <summary>The page frames (4 KiB) of a machine. Safe from any thread.</summary>
public interface IFrameAllocator
{
    /// <summary>
    /// Takes 2^(<paramref name="sizeLog2"/> − 12) physically contiguous, naturally aligned, zeroed frames. Single
    /// frames come scattered over memory, so that nobody mistakes luck for contiguity.
    /// </summary>
    /// <param name="kind">What they are for.</param>
    /// <param name="sizeLog2">12 for one frame.</param>
    /// <param name="first">The first byte.</param>
    /// <param name="last">No byte above this address: 0xFFFF_FFFF for what a 32-bit device must reach without
    /// remapping.</param>
    /// <returns>False when memory of that shape has run out.</returns>
    bool TryAllocate(FrameKind kind, int sizeLog2, out PhysicalAddress first, PhysicalAddress? last = null);

    /// <summary>
    /// As <see cref="TryAllocate"/>, with a lower bound as well. Where an allocator has nothing better, it takes and
    /// gives back what lies too low until it has seen <c>256</c> of those: false then means only that.
    /// </summary>
    /// <param name="kind">What they are for.</param>
    /// <param name="sizeLog2">12 for one frame.</param>
    /// <param name="bounds">Every byte lies in here.</param>
    /// <param name="first">The first byte.</param>
    bool TryAllocateWithin(FrameKind kind, int sizeLog2, PhysicalRange bounds, out PhysicalAddress first)
    {
        const int MostTries = 256;
        Stack<PhysicalAddress> low = new();
        bool found = TryAllocate(kind, sizeLog2, out first, bounds.Last);
        while (found && first < bounds.First && low.Count < MostTries)
        {
            low.Push(first);
            found = TryAllocate(kind, sizeLog2, out first, bounds.Last);
        }
        if (found && first < bounds.First)
        {
            low.Push(first);
            found = false;
        }
        while (low.TryPop(out PhysicalAddress back)) { Free(back, sizeLog2); }
        return found;
    }

    /// <summary>
    /// Gives frames back. A naturally aligned part of what was taken at once may be given back by itself. Buffers that
    /// a device may still reach await a flush first (<see cref="HoldFreed"/>).
    /// </summary>
    /// <exception cref="InvalidOperationException">
    /// They are not allocated (a double free, also of what awaits its flush), or quarantined.
    /// </exception>
    void Free(PhysicalAddress first, int sizeLog2);

    /// <summary>
    /// Marks a frame as perhaps still reachable; it stays so until <see cref="Release"/> or <see cref="Reclaim"/>. One
    /// that awaits its flush no longer does.
    /// </summary>
    /// <exception cref="InvalidOperationException">It is not allocated, or in quarantine already.</exception>
    void Quarantine(PhysicalAddress frame);

    /// <summary>
    /// Ends the quarantine of a frame whose device was reset or detached: it becomes free, as by <see cref="Free"/>.
    /// </summary>
    /// <exception cref="InvalidOperationException">It is not in quarantine.</exception>
    void Release(PhysicalAddress frame);

    /// <summary>
    /// As <see cref="Release"/>, where the frame's owner never gave it back: it is a <see cref="FrameKind.Buffer"/>
    /// again, and still the owner's. One that awaited its flush when it came into quarantine has no owner, and becomes
    /// free.
    /// </summary>
    /// <exception cref="InvalidOperationException">It is not in quarantine.</exception>
    void Reclaim(PhysicalAddress frame);

    /// <summary>
    /// What the frame holding <paramref name="address"/> is used for; <see cref="FrameKind.Absent"/> outside memory.
    /// </summary>
    FrameKind KindOf(PhysicalAddress address);

    /// <summary>Frames in quarantine now.</summary>
    int QuarantinedFrames { get; }

    /// <summary>Frames that await a flush now (<see cref="FrameKind.AwaitsFlush"/>).</summary>
    int HeldFrames => 0;

    /// <summary>
    /// From now on a buffer that is freed while <paramref name="gate"/> says that something is pending becomes
    /// <see cref="FrameKind.AwaitsFlush"/>, and free only by <see cref="FreeHeld"/>. Where memory runs out meanwhile
    /// the gate is asked to flush, and the allocation tried once more.
    /// </summary>
    /// <param name="gate">The only one; null ends it, and what still awaits a flush becomes free.</param>
    /// <exception cref="InvalidOperationException">There is another gate.</exception>
    /// <exception cref="NotSupportedException">
    /// This allocator holds nothing: nobody can defer invalidations over it.
    /// </exception>
    void HoldFreed(IFlushGate? gate) => throw new NotSupportedException("these frames cannot wait for a flush");

    /// <summary>
    /// Frees what awaited a flush at the last call already. By then everything that was pending at that call must be
    /// out of reach, or in quarantine.
    /// </summary>
    /// <returns>Whether frames await the next call.</returns>
    bool FreeHeld() => false;
}
