namespace Sluice.Dma;

// What is handed out and must come back. Lists and common buffers are known by their mappings; channels, map registers
// and contexts are told of by the layer that has them.
internal sealed partial class AdapterVerifier
{
    private readonly Lock _held = new();
    private readonly Dictionary<(DmaResource Kind, object Key), Holding> _holdings = [];
    private readonly long[] _count = new long[Enum.GetValues<DmaResource>().Length];

    // What release found outstanding, of lists and common buffers.
    private readonly (long Count, MappingRecord First, long Age)[] _outstanding = new (long, MappingRecord, long)[5];

    private readonly record struct Holding(long Count, CallSite Site);

    /// <summary>What is held of a resource now, as far as <see cref="OnTook"/> was told.</summary>
    internal long Held(DmaResource kind)
    {
        lock (_held) { return _count[(int)kind]; }
    }

    /// <summary>
    /// A channel, map registers or a context was granted. Notes a second channel (0B), more map registers than granted
    /// in one call (15) or at once (0C), a context that is in use (64).
    /// </summary>
    /// <param name="kind">What.</param>
    /// <param name="key">Which: an object that is the same when it is given back.</param>
    /// <param name="count">How many; 1 for all but map registers.</param>
    /// <param name="site">The driver's call.</param>
    internal void OnTook(DmaResource kind, object key, long count, in CallSite site)
    {
        long held;
        bool again;
        lock (_held)
        {
            again = !_holdings.TryAdd((kind, key), new(count, site));
            if (!again) { _count[(int)kind] += count; }
            held = _count[(int)kind];
        }
        int granted = _adapter.MapRegisters;
        if (kind == DmaResource.TransferContext && again)
        {
            Note(VerificationRule.ContextMisused, 0, "a transfer context is set up while a transfer uses it", site);
        }
        if (kind == DmaResource.Channel && held > 1)
        {
            Note(VerificationRule.SecondChannel, 0, $"{held} channels are held at once", site);
        }
        if (kind != DmaResource.MapRegisters) { return; }
        if (count > granted)
        {
            Note(VerificationRule.TooManyMapRegisters, 0,
                $"{count} map registers are asked for at once, and {granted} were granted", site);
        }
        else if (held > granted)
        {
            Note(VerificationRule.TooManyMapRegistersAtOnce, 0,
                $"{held} map registers are held at once, and {granted} were granted", site);
        }
    }

    /// <summary>Something is given back. Notes what is not held: 03 to 06, 64.</summary>
    /// <returns>Whether it was held.</returns>
    internal bool OnGaveBack(DmaResource kind, object key, in CallSite site)
    {
        if (Drop(kind, key)) { return true; }
        (VerificationRule rule, string line) = kind switch
        {
            DmaResource.CommonBuffer => (VerificationRule.CommonBufferFreedTwice, "a common buffer is freed again"),
            DmaResource.Channel => (VerificationRule.ChannelFreedTwice, "a channel is freed that is not held"),
            DmaResource.MapRegisters =>
                (VerificationRule.MapRegistersFreedTwice, "map registers are freed that are not held"),
            DmaResource.ScatterGatherList => (VerificationRule.ListPutTwice, "a list is put again"),
            _ => (VerificationRule.ContextMisused, "a transfer context is ended that no transfer uses"),
        };
        Note(rule, 0, line, site);
        return false;
    }

    /// <summary>As <see cref="OnGaveBack"/>, for what may be given back twice by contract.</summary>
    internal bool Drop(DmaResource kind, object key)
    {
        lock (_held)
        {
            bool held = _holdings.Remove((kind, key), out Holding holding);
            _count[(int)kind] -= holding.Count;
            return held;
        }
    }

    /// <summary>The processor reaches for bytes that the device owns. Throws if asked; else the caller does.</summary>
    internal void OnTouched(in MappingRecord record, string line)
    {
        Note(VerificationRule.TouchedWhileMapped, 0, line, default, record);
        DmaVerifier.Conclude();
    }

    /// <summary>Map registers are given back while their transfer is in flight. Throws if asked.</summary>
    internal void OnFreedWhileMapped(int count) => _verifier.Violate(
        VerificationRule.MapRegistersFreedWhileMapped, 0,
        $"{count} map registers are given back while their transfer is in flight", _adapter);

    /// <summary>A common buffer is mapped: its bytes are the device's until it is freed.</summary>
    internal void OnCommon(Mapping mapping, long number)
    {
        VerifiedTransfer verified = mapping.Verified!;
        (verified.Number, verified.Transfer) = (number, mapping.Transfer);
        verified.MappedAt = _verifier.Clock.Read(out _);
        bool writes = mapping.Transfer.Direction != DmaDirection.ToDevice;
        foreach (PhysicalAddress page in mapping.Common.Pages)
        {
            _verifier.Pages.Add(page, 0, 4095, writes, new(mapping, number), out _);
        }
    }

    /// <summary>The adapter is released while this is still mapped.</summary>
    internal void OnOutstanding(Mapping mapping)
    {
        if (!mapping.TryCapture(out MappingRecord record)) { return; }
        DmaResource kind = record.IsCommonBuffer ? DmaResource.CommonBuffer : DmaResource.ScatterGatherList;
        long age = mapping.Verified is { Number: > 0 } verified
            ? _verifier.Clock.Read(out _) - verified.MappedAt : 0;
        ref (long Count, MappingRecord First, long Age) outstanding = ref _outstanding[(int)kind];
        if (outstanding.Count++ == 0 || record.Number < outstanding.First.Number)
        {
            (outstanding.First, outstanding.Age) = (record with { State = MappingState.Leaked }, age);
        }
    }

    /// <summary>
    /// The adapter is released, and everything that was mapped is leaked: one note for each kind that is outstanding.
    /// </summary>
    internal void OnReleased(in CallSite site)
    {
        foreach (DmaResource kind in Enum.GetValues<DmaResource>())
        {
            (long count, MappingRecord first, long age) = _outstanding[(int)kind];
            (VerificationRule rule, string what) = kind switch
            {
                DmaResource.CommonBuffer => (VerificationRule.CommonBuffersOutstanding, "common buffers"),
                DmaResource.Channel => (VerificationRule.ChannelsOutstanding, "channels"),
                DmaResource.MapRegisters => (VerificationRule.MapRegistersOutstanding, "map registers"),
                DmaResource.ScatterGatherList => (VerificationRule.ListsOutstanding, "scatter/gather lists"),
                _ => (VerificationRule.ContextsOutstanding, "transfer contexts"),
            };
            if (count > 0)
            {
                Note(rule, 0, $"released with {count} {what} outstanding; the oldest is #{first.Number}", site, first,
                    age: age);
                continue;
            }
            CallSite taken;
            lock (_held)
            {
                if ((count = _count[(int)kind]) == 0) { continue; }
                taken = _holdings.First(h => h.Key.Kind == kind).Value.Site;
            }
            string where = taken.Member is { Length: > 0 } ? $"; some were taken in {taken}" : "";
            Note(rule, 0, $"released with {count} {what} outstanding{where}", site);
        }
        _guards?.Close();
    }

    private void GivePages(Mapping mapping, VerifiedTransfer verified)
    {
        MappedBy by = new(mapping, verified.Number);
        if (mapping.Common.Pages is { } common)
        {
            foreach (PhysicalAddress page in common) { _verifier.Pages.Remove(page, 0, by); }
            return;
        }
        if (verified.ChangeOfMdl() != 0)
        {
            _verifier.Pages.RemoveAll(by);
            return;
        }
        uint mask = (1u << _verifier.CacheLineLog2) - 1;
        PageCursor pages = new(verified.Transfer);
        while (pages.Next(out PhysicalAddress page, out uint first, out _))
        {
            _verifier.Pages.Remove(page, first & ~mask, by);
        }
    }

    /// <summary>Nobody used these guarded pages, and yet they changed.</summary>
    internal void OnFreePageWritten(GuardedRun run) => Note(VerificationRule.WroteOutside, 3,
        $"a free map register in the run at {run.First} was written", default,
        cause: "the device wrote to a list that was put");

    private void CheckGuard(Mapping mapping, GuardedRun run, in CallSite site)
    {
        int damage = run.Damage(_verifier.Platform, out long distance);
        if (damage == 0) { return; }
        MappingRecord? record = RecordOf(mapping);
        bool before = damage is 1 or 4;
        string where = distance == 0 ? "directly" : $"{distance} bytes";
        Note(VerificationRule.WroteOutside, damage,
            $"{where} {(before ? "before the start" : "past the end")} of mapping #{mapping.Number} "
            + "something was written", site, record, Nearest(record));
    }

    // The live mapping of the device that begins next to another.
    private MappingRecord? Nearest(MappingRecord? of)
    {
        (MappingRecord? best, ulong least) = (null, ulong.MaxValue);
        foreach (Mapping mapping in _adapter.Table.All)
        {
            if (of is not { } here || !mapping.TryCapture(out MappingRecord record)) { continue; }
            if (!record.IsLive || record.Number == here.Number) { continue; }
            ulong distance = record.First > here.First ? record.First - here.First : here.First - record.First;
            if (distance < least) { (best, least) = (record, distance); }
        }
        return best;
    }
}
