namespace Sluice.Dma;

// What a buffer must be to be mapped, and what its list must be.
internal sealed partial class AdapterVerifier
{
    // As many as Linux can count.
    private const int ManyOverlaps = 7;

    // No machine of any architecture has more.
    private const int PhysicalBits = 52;

    /// <summary>The range of a get, before it is looked at. Throws if asked; else the caller does.</summary>
    internal void CheckRange(Mdl mdl, uint offset, uint length, string member, string file)
    {
        ulong bytes = mdl.ChainByteCount;
        for (Mdl? part = mdl; part is not null; part = part.Next)
        {
            if (!part.IsDisposed) { continue; }
            Note(VerificationRule.UsedAfterFree, 0,
                $"an MDL of {part.ByteCount} bytes is to be mapped, and it was disposed", new(member, file));
            DmaVerifier.Conclude();
            return;
        }
        if (length != 0 && length <= _adapter.Description.MaximumLength && offset + (ulong)length <= bytes) { return; }
        (VerificationRule rule, string line) = (offset, length) switch
        {
            (_, 0) => (VerificationRule.ZeroLength, "a transfer of no bytes is asked for"),
            _ when offset >= bytes => (VerificationRule.OutsideMdl,
                $"byte {offset} is asked of a buffer of {bytes} bytes"),
            _ when offset + (ulong)length > bytes => (VerificationRule.BufferTooShort,
                $"{length} bytes from byte {offset} are asked of a buffer of {bytes}: "
                + $"{offset + (ulong)length - bytes} are unaccounted for"),
            _ => (VerificationRule.TooManyMapRegisters,
                $"{length} bytes are asked for, and the device takes {_adapter.Description.MaximumLength}"),
        };
        Note(rule, 0, line, new(member, file));
        DmaVerifier.Conclude();
    }

    /// <summary>Something is asked of an adapter that was released. Throws if asked; else the caller does.</summary>
    internal void OnUsedAfterRelease(string what, in CallSite site)
    {
        NoteReleased(what, site);
        DmaVerifier.Conclude();
    }

    /// <summary>What a mapping stood for is used, and it was given back. Throws if asked; else the caller does.</summary>
    /// <param name="mapping">Its record, which may serve another by now.</param>
    /// <param name="number">Which it was.</param>
    /// <param name="what">What it was, in words.</param>
    internal void OnUsedAfterFree(Mapping mapping, long number, string what)
    {
        MappingRecord? record = RecordOf(mapping);
        bool leaked = record is { State: MappingState.Leaked };
        if (record?.Number != number) { record = null; }
        Note(VerificationRule.UsedAfterFree, 0,
            record is not null && leaked ? $"{what} #{number} is used, and its adapter was released"
                : $"{what} #{number} is used, and it was given back", default, record);
        DmaVerifier.Conclude();
    }

    /// <summary>A get that failed.</summary>
    /// <returns>What the get answers.</returns>
    internal DmaFailure OnRefused(
        DmaFailure failure, in Transfer transfer, int registers, PhysicalAddress culprit, in MappingOrigin origin)
    {
        CallSite site = new(origin.Member, origin.File);
        if (failure == DmaFailure.Disposed)
        {
            NoteReleased("a list", site);
        }
        else if (failure == DmaFailure.OutOfResources && registers > _adapter.MapRegisters)
        {
            Note(VerificationRule.TooManyMapRegisters, 0,
                $"{transfer.Length} bytes take {registers} map registers, and the adapter has {_adapter.MapRegisters}",
                site);
        }
        else if (failure is DmaFailure.NotABuffer or DmaFailure.Unreachable) { NoteFrame(culprit, site); }
        return DmaVerifier.MustConclude ? DmaFailure.RuleBroken : failure;
    }

    private void NoteReleased(string what, in CallSite site) => Note(
        VerificationRule.AdapterReleased, 0, $"{what} is asked of an adapter that was released", site);

    private void NoteFrame(PhysicalAddress page, in CallSite site)
    {
        FrameKind kind = _verifier.Platform.Frames.KindOf(page);
        string? name = _verifier.RegionNames?.NameOf(page);
        VerificationRule? rule = kind switch
        {
            FrameKind.Buffer => null,
            FrameKind.Absent when page.Value >> PhysicalBits != 0 => VerificationRule.VirtualAddress,
            FrameKind.Absent => VerificationRule.NoMemory,
            FrameKind.Kernel when name is not null && name.EndsWith("stack", StringComparison.OrdinalIgnoreCase) =>
                VerificationRule.StackMemory,
            FrameKind.Kernel or FrameKind.UnitTable => VerificationRule.KernelMemory,
            _ => VerificationRule.NotLocked,
        };
        if (rule is not { } broken) { return; }
        string what = name ?? (kind == FrameKind.Absent ? "no memory" : $"{kind} memory");
        Note(broken, 0, $"the page at {page} of the buffer is {what}", site);
    }

    private void CheckElements(Mapping mapping, in MappingOrigin origin)
    {
        DeviceDescription device = _adapter.Description;
        for (int i = 0; i < mapping.Count; i++)
        {
            ScatterGatherElement element = mapping.ElementAt(i);
            if (element.Length > device.MaximumSegment)
            {
                Note(VerificationRule.SegmentTooLong, 0,
                    $"element {i} has {element.Length} bytes, and the device takes {device.MaximumSegment}",
                    new(origin.Member, origin.File), Proposed(mapping, origin));
            }
            LogicalAddress last = element.Address + (element.Length - 1);
            if (device.BoundaryLog2 < 64
                && element.Address.Value >> device.BoundaryLog2 != last.Value >> device.BoundaryLog2)
            {
                Note(VerificationRule.BoundaryCrossed, 0,
                    $"element {i} from {element.Address} to {last} crosses a multiple of 2^{device.BoundaryLog2}",
                    new(origin.Member, origin.File), Proposed(mapping, origin));
            }
        }
    }

    // Where devices do not see the caches, a line that a device writes must belong to the buffer alone.
    private void CheckCacheLines(Mapping mapping, in MappingOrigin origin)
    {
        Transfer transfer = mapping.Verified!.Transfer;
        if (_verifier.CacheLineLog2 == 0 || transfer.Direction == DmaDirection.ToDevice) { return; }
        uint mask = (1u << _verifier.CacheLineLog2) - 1;
        MappingOrigin by = origin;
        PageCursor pages = new(transfer);
        pages.Next(out _, out uint first, out uint length);
        if ((first & mask) != 0) { NoteLine(4, $"starts at byte {first} of its page"); }
        uint end = first + length;
        while (pages.Next(out _, out first, out length)) { end = first + length; }
        if ((end & mask) != 0) { NoteLine(5, $"ends at byte {end} of its page"); }

        void NoteLine(int subCode, string how) => Note(VerificationRule.InvalidBuffer, subCode,
            $"a buffer that the device writes {how}, inside a cache line of {mask + 1} bytes",
            new(by.Member, by.File), Proposed(mapping, by));
    }

    private void TakePages(Mapping mapping, in MappingOrigin origin)
    {
        VerifiedTransfer verified = mapping.Verified!;
        bool writes = verified.Transfer.Direction != DmaDirection.ToDevice;
        uint mask = (1u << _verifier.CacheLineLog2) - 1;
        (int most, bool reached) = (0, true);
        Overlap overlap = default;
        PhysicalAddress where = default;
        PageCursor pages = new(verified.Transfer);
        while (pages.Next(out PhysicalAddress page, out uint first, out uint length))
        {
            uint last = first + length - 1;
            int overlaps = _verifier.Pages.Add(page, first & ~mask, last | mask, writes,
                new(mapping, verified.Number), out Overlap found);
            if (overlaps > most && most == 0) { (overlap, where) = (found, page); }
            most = Math.Max(most, overlaps);
            reached &= _verifier.Platform.Memory.TryGetSpan(page + first, (int)length, out _);
        }
        CallSite site = new(origin.Member, origin.File);
        if (!reached)
        {
            Note(VerificationRule.NotMappedForProcessor, 0,
                $"the processor cannot reach the buffer of mapping #{verified.Number}", site,
                Proposed(mapping, origin));
        }
        if (most == 0) { return; }
        DmaAdapter holder = overlap.By.Mapping.Adapter;
        MappingRecord? other = RecordOf(overlap.By.Mapping);
        if (other?.Number != overlap.By.Number) { other = null; }
        Note(VerificationRule.AlreadyMapped, holder == _adapter ? 1 : 2,
            $"bytes {where + overlap.First} to {where + overlap.Last} of memory are mapped by mapping "
            + $"#{overlap.By.Number} of {holder.Driver} {holder.Device}, and now again",
            site, Proposed(mapping, origin), other);
        if (most <= ManyOverlaps) { return; }
        Note(VerificationRule.TooManyOverlaps, 0, $"bytes in the page at {where} are mapped {most + 1} times",
            site, Proposed(mapping, origin), other);
    }

    private void CheckFrames(Mapping mapping, in CallSite site, long age)
    {
        PageCursor pages = new(mapping.Verified!.Transfer);
        while (pages.Next(out PhysicalAddress page, out _, out _))
        {
            FrameKind kind = _verifier.Platform.Frames.KindOf(page);
            if (kind == FrameKind.Buffer) { continue; }
            Note(VerificationRule.FreedWhileMapped, 0,
                $"the page at {page} of mapping #{mapping.Verified.Number} became {kind} before the put", site,
                RecordOf(mapping), age: age);
            return;
        }
    }

    // The record of a mapping that is not published yet.
    private MappingRecord Proposed(Mapping mapping, in MappingOrigin origin) => new()
    {
        Number = mapping.Verified!.Number,
        Owner = _adapter.Driver,
        Device = _adapter.Device,
        First = mapping.Count > 0 ? mapping.ElementAt(0).Address : default,
        Length = mapping.Transfer.Length,
        Direction = mapping.Transfer.Direction,
        IsContiguous = mapping.Count == 1,
        State = MappingState.Live,
        Tag = origin.Tag,
        MapSite = new(origin.Member, origin.File),
    };
}
