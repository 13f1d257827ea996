using System.Runtime.CompilerServices;

namespace Sluice.Dma;

/// <summary>
/// The frames of one machine that devices may still reach though nobody expects them to, and how many leaks each frame
/// is part of: buffers share pages. A frame leaves quarantine with the last of its leaks, and only then: to its owner,
/// or, when the owner has given it back meanwhile, to the machine.
/// </summary>
/// <remarks>Safe from any thread. One lock; not a data path.</remarks>
internal sealed class LeakedFrames(IFrameAllocator frames)
{
    private const int PageLog2 = 12;
    private static readonly ConditionalWeakTable<IPlatform, LeakedFrames> All = [];
    private readonly Lock _lock = new();
    private readonly Dictionary<PhysicalAddress, Entry> _entries = [];

    private readonly record struct Entry(int Leaks, bool OwnerGone);

    /// <summary>Those of a machine.</summary>
    internal static LeakedFrames Of(IPlatform platform) =>
        All.GetValue(platform, static platform => new(platform.Frames));

    /// <summary>One more leak of these frames: whoever owns them, they leave circulation.</summary>
    /// <param name="pages">The frames.</param>
    /// <param name="added">What <see cref="End"/> takes: without frames that are in nobody's use.</param>
    internal void Add(ReadOnlySpan<PhysicalAddress> pages, List<PhysicalAddress> added)
    {
        lock (_lock)
        {
            EveryStep.ForEach(pages, page =>
            {
                if (!TryQuarantine(page)) { return; }
                Entry entry = _entries.GetValueOrDefault(page);
                _entries[page] = entry with { Leaks = entry.Leaks + 1 };
                added.Add(page);
            });
        }
    }

    /// <summary>
    /// A map failed because a unit did not confirm. Frames that its domain quarantined for that stay so for good: there
    /// is no leak whose release could say that the device is quiet. Those of a leak were never mapped again.
    /// </summary>
    internal void KeepForGood(ReadOnlySpan<PhysicalAddress> pages)
    {
        lock (_lock)
        {
            foreach (PhysicalAddress page in pages)
            {
                if (frames.KindOf(page) == FrameKind.Quarantined) { _entries.TryAdd(page, new(1, OwnerGone: false)); }
            }
        }
    }

    /// <summary>A leak is over. The frames are those that <see cref="Add"/> answered; once.</summary>
    internal void End(ReadOnlySpan<PhysicalAddress> pages)
    {
        lock (_lock)
        {
            foreach (PhysicalAddress page in pages)
            {
                if (!_entries.TryGetValue(page, out Entry entry)) { continue; }
                if (entry.Leaks > 1)
                {
                    _entries[page] = entry with { Leaks = entry.Leaks - 1 };
                    continue;
                }
                _entries.Remove(page);
                if (frames.KindOf(page) != FrameKind.Quarantined) { continue; }
                if (entry.OwnerGone) { frames.Release(page); }
                else { frames.Reclaim(page); }
            }
        }
    }

    /// <summary>Their owner gives frames back: now, or, when they are in quarantine, with the end of that.</summary>
    internal void Give(ReadOnlySpan<PhysicalAddress> pages)
    {
        lock (_lock)
        {
            foreach (PhysicalAddress page in pages)
            {
                try
                {
                    if (frames.KindOf(page) != FrameKind.Quarantined)
                    {
                        frames.Free(page, PageLog2);
                        continue;
                    }
                }
                catch (InvalidOperationException) when (frames.KindOf(page) == FrameKind.Quarantined)
                {
                    // A domain was faster: it asks nobody.
                }
                _entries[page] = _entries.GetValueOrDefault(page) with { OwnerGone = true };
            }
        }
    }

    // Inside the lock. Whether it is in quarantine: a domain whose unit did not confirm may have seen to that.
    private bool TryQuarantine(PhysicalAddress page)
    {
        FrameKind kind = frames.KindOf(page);
        if (kind == FrameKind.Buffer)
        {
            // What an entry would say is of the frame's last owner.
            _entries.Remove(page);
            try { frames.Quarantine(page); }
            catch (InvalidOperationException) when (frames.KindOf(page) != FrameKind.Buffer)
            {
                // A domain was faster: it asks nobody.
            }
            kind = frames.KindOf(page);
        }
        return kind == FrameKind.Quarantined;
    }
}
