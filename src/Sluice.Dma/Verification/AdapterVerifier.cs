namespace Sluice.Dma;

/// <summary>
/// The verification of one adapter: what its calls do is held against the rules, and what they hand out is remembered
/// until it comes back. One part for each kind of call.
/// </summary>
/// <remarks>
/// Safe from any thread, called outside every gate. Methods that begin with <c>On</c> note what is broken and leave
/// throwing to the caller's <see cref="DmaVerifier.Conclude"/>, unless they say otherwise.
/// </remarks>
internal sealed partial class AdapterVerifier
{
    private readonly DmaAdapter _adapter;
    private readonly DmaVerifier _verifier;
    private readonly GuardedRuns? _guards;
    private int _ungot;

    internal AdapterVerifier(DmaAdapter adapter, DmaVerifier verifier)
    {
        (_adapter, _verifier) = (adapter, verifier);
        if (verifier.Guards) { _guards = new(verifier.Platform, new(adapter.Description.LastAddress.Value)); }
    }

    /// <summary>The verifier of the system.</summary>
    internal DmaVerifier System => _verifier;

    /// <summary>A get that answered "not now".</summary>
    internal void OnShort() => Interlocked.Increment(ref _ungot);

    /// <summary>Puts guarded pages in the place of the buffer, before the back-end maps it.</summary>
    internal void Guard(Mapping mapping)
    {
        if (_guards is null) { return; }
        VerifiedTransfer verified = mapping.Verified!;
        if (_guards.TryStandIn(mapping.Transfer, this, out GuardedRun? run, out Transfer instead))
        {
            (verified.Guard, verified.Transfer) = (run, mapping.Transfer);
            mapping.Transfer = instead;
        }
    }

    /// <summary>A transfer is mapped, but its list not yet handed out.</summary>
    /// <returns>False when a rule is broken and throwing asked: then nothing is remembered, unmap it.</returns>
    internal bool OnMapped(Mapping mapping, long number, in MappingOrigin origin)
    {
        VerifiedTransfer verified = mapping.Verified!;
        if (verified.Guard is null) { verified.Transfer = mapping.Transfer; }
        (verified.Number, verified.Elements) = (number, mapping.Count);
        verified.MappedAt = ReadClock(new(origin.Member, origin.File));
        verified.KeepMdl();
        CheckElements(mapping, origin);
        CheckCacheLines(mapping, origin);
        TakePages(mapping, origin);
        if (WorksOnACopy(mapping) || verified.Transfer.Direction == DmaDirection.ToDevice)
        {
            verified.Content = verified.HashContent(_verifier.Platform);
        }
        if (!DmaVerifier.MustConclude) { return true; }
        Forget(mapping);
        return false;
    }

    /// <summary>A transfer ends: everything is still mapped, and no data was copied back.</summary>
    internal void OnClosing(Mapping mapping, string member, string file)
    {
        if (mapping.Verified is not { Number: > 0 } verified) { return; }
        CallSite site = new(member, file);
        long age = ReadClock(site) - verified.MappedAt;
        if (verified.ChangeOfMdl() is var change and > 0)
        {
            string what = change switch
            {
                1 => "is shorter than the transfer now",
                2 => "is chained otherwise now",
                _ => "lists other pages now",
            };
            Note(VerificationRule.MdlChanged, change, $"the MDL of mapping #{verified.Number} {what}", site,
                RecordOf(mapping), age: age);
        }
        else
        {
            CheckFrames(mapping, site, age);
            if (verified.Content is { } content && verified.HashContent(_verifier.Platform) != content)
            {
                bool onlyReads = verified.Transfer.Direction == DmaDirection.ToDevice;
                Note(
                    VerificationRule.WrittenWhileMapped, 0,
                    $"the buffer of mapping #{verified.Number} changed between get and put, "
                    + (onlyReads ? "and its device may only read it" : "and its device works on a copy"),
                    site, RecordOf(mapping), age: age,
                    cause: "the driver filled or used the buffer again before the request was complete");
            }
        }
        GivePages(mapping, verified);
    }

    /// <summary>A transfer has ended: the device is gone, and a back-end's data is copied back.</summary>
    internal void OnClosed(Mapping mapping, string member, string file)
    {
        if (mapping.Verified is not { Number: > 0 } verified) { return; }
        if (verified.Guard is { } run)
        {
            CheckGuard(mapping, run, new(member, file));
            if (verified.Transfer.Direction != DmaDirection.ToDevice)
            {
                GuardedRun.Copy(_verifier.Platform, mapping.Transfer, verified.Transfer);
            }
            mapping.Transfer = verified.Transfer;
            _guards!.Return(run);
        }
        verified.Clear();
    }

    /// <summary>A mapping comes to nothing: what was remembered of it goes.</summary>
    internal void Forget(Mapping mapping)
    {
        if (mapping.Verified is not { } verified) { return; }
        if (verified.Number > 0) { GivePages(mapping, verified); }
        if (verified.Guard is { } run)
        {
            mapping.Transfer = verified.Transfer;
            _guards!.Return(run);
        }
        verified.Clear();
    }

    /// <summary>
    /// A mapping stays for good. The device reaches the pages it was given; the driver's, where it was given others,
    /// are free of it.
    /// </summary>
    internal void OnLeaked(Mapping mapping)
    {
        if (mapping.Verified is not { } verified) { return; }
        if (verified.Number > 0) { GivePages(mapping, verified); }
        if (verified.Guard is { } run)
        {
            Mdl whole = run.ToMdl(_verifier.Platform);
            whole.PinChain();
            whole.Dispose();
            mapping.Transfer = mapping.Transfer with { Mdl = whole };
            verified.Transfer.Mdl!.UnpinChain();
        }
        verified.Clear();
    }

    /// <summary>A put of what cannot be put. Throws if asked; else the caller does.</summary>
    internal void OnBadPut(in ScatterGatherLease list, string member, string file)
    {
        CallSite site = new(member, file);
        if (list.Mapping is not { } mapping)
        {
            bool ignored = Volatile.Read(ref _ungot) > 0;
            if (ignored) { Interlocked.Decrement(ref _ungot); }
            Note(
                ignored ? VerificationRule.ResultIgnored : VerificationRule.NeverGot, 0,
                ignored ? "a list is put that a get refused" : "a list is put that was never got", site);
        }
        else if (mapping.Adapter != _adapter)
        {
            Note(VerificationRule.NotOfThisAdapter, 0,
                $"scatter/gather list #{list.Number} belongs to {mapping.Adapter.Driver} {mapping.Adapter.Device}",
                site, RecordOf(mapping));
        }
        else
        {
            bool gone = mapping.Number == list.Number;
            Note(VerificationRule.ListPutTwice, 0, $"scatter/gather list #{list.Number} was put before", site,
                gone ? RecordOf(mapping) : null,
                cause: gone ? null : "the second put came long after the first: a timeout, perhaps");
        }
        DmaVerifier.Conclude();
    }

    private long ReadClock(in CallSite site)
    {
        long now = _verifier.Clock.Read(out VerificationRule? broken);
        if (broken is { } rule) { Note(rule, 0, $"{rule.Info().Means} (it says {now} ns)", site); }
        return now;
    }

    // Whether the device reaches none of the driver's pages.
    private static bool WorksOnACopy(Mapping mapping) =>
        mapping.Verified!.Guard is not null || mapping.Backend.Slot.PageCount != 0
        || (mapping.Backend is { Bounce: { } hold, Reservation: null } state && hold.Pages >= state.MapRegisters);

    private static MappingRecord? RecordOf(Mapping mapping) =>
        mapping.TryCapture(out MappingRecord record) ? record : null;

    /// <summary>Notes a broken rule of this adapter.</summary>
    internal void Note(
        VerificationRule rule, int subCode, string line, in CallSite site, MappingRecord? mapping = null,
        MappingRecord? other = null, string? cause = null, long? age = null) =>
        _verifier.Note(new()
        {
            Rule = rule,
            SubCode = subCode,
            Line = line,
            Device = _adapter.Device,
            Driver = _adapter.Driver,
            Site = site,
            Mapping = mapping,
            AgeNanoseconds = age,
            Other = other,
            LikelyCause = cause,
        },
        ofThisCall: !_adapter.IsLent);
}
