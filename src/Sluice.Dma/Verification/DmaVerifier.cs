using System.Diagnostics;

namespace Sluice.Dma;

/// <summary>
/// Watches over the rules of the DDI for all adapters of a system: takes note of what is broken, tells whoever listens,
/// and throws or breaks as asked. There is none while verification is off.
/// </summary>
/// <remarks>
/// How a layer above uses it (safe from any thread, never inside a gate or lock):
/// <code>
/// system.Verifier?.Violate(VerificationRule.NoAdapter, 0, "PutDmaAdapter was given no adapter", null, site);
///
/// if (adapter.Verifier is { } verifier)
/// {
///     verifier.OnTook(DmaResource.Channel, channel, 1, site);           // at the grant: 0B, 0C, 15, 64
///     verifier.OnGaveBack(DmaResource.Channel, channel, site);          // 03 to 06, 64 when it is not held
///     verifier.OnPut(list, direction, length, elements, site);          // before a put: 43, 46, 47
///     verifier.OnFree(buffer, address, length, processor, site);        // before a free: 03, 43, 45
///     verifier.OnSync(list, offset, length, direction, elements, forProcessor, site);   // 51 to 56
///     VerifiedRegisters registers = new(verifier, count);               // one for each grant: 00, 0D, 10, 16, 20 …
///     DmaVerifier.Conclude();                                           // last thing in the call
/// }
/// </code>
/// <see cref="Note"/> and all methods named <c>On…</c> tell and go on; <see cref="Conclude"/>, at the end of the same
/// call on the same thread, throws the first thing noted if throwing is asked. <see cref="Violate"/> is both.
/// </remarks>
internal sealed class DmaVerifier
{
    // What this thread noted and has not thrown yet, and whether a subscriber runs on it now.
    [ThreadStatic]
    private static DmaViolation? t_broken;
    [ThreadStatic]
    private static bool t_telling;

    private readonly VerificationMode _mode;
    private readonly SubscriberFailures _failures;
    private long _violations;

    internal DmaVerifier(DmaSystem system, DmaOptions options)
    {
        (_mode, _failures) = (options.Verification, system.Failures);
        Clock = new(system.Platform.Clock);
        (Platform, RegionNames, Guards) = (system.Platform, options.RegionNames, options.VerificationGuards);
        CacheLineLog2 = options.VerificationCacheLineLog2;
    }

    internal event Action<DmaViolation>? Violated;

    /// <summary>Broken rules so far.</summary>
    internal long Violations => Volatile.Read(ref _violations);

    /// <summary>Which bytes of memory are mapped, by whom.</summary>
    internal MappedPages Pages { get; } = new();

    internal VerifiedClock Clock { get; }

    internal IPlatform Platform { get; }

    internal IPhysicalRegionNames? RegionNames { get; }

    /// <summary>Whether transfers go through guarded pages of the verifier.</summary>
    internal bool Guards { get; }

    /// <summary>What caches share with their neighbours, as a power of two; 0 where devices see them.</summary>
    internal int CacheLineLog2 { get; }

    /// <summary>Whether <see cref="Conclude"/> would throw.</summary>
    internal static bool MustConclude => t_broken is not null;

    /// <summary>Tells of a broken rule and throws if asked.</summary>
    /// <param name="rule">Which.</param>
    /// <param name="subCode">Which case of it, 0 for the only one.</param>
    /// <param name="line">What happened, in one line without an end.</param>
    /// <param name="adapter">By whom, or null.</param>
    /// <param name="site">The driver's call.</param>
    /// <param name="mapping">The mapping it is about, or null.</param>
    /// <param name="cause">What probably went wrong, or null.</param>
    /// <exception cref="DmaViolationException">The mode is <see cref="VerificationMode.Throw"/>.</exception>
    internal void Violate(
        VerificationRule rule, int subCode, string line, DmaAdapter? adapter, CallSite site = default,
        MappingRecord? mapping = null, string? cause = null)
    {
        Note(new()
        {
            Rule = rule,
            SubCode = subCode,
            Line = line,
            Device = adapter?.Device,
            Driver = adapter?.Driver,
            Site = site,
            Mapping = mapping,
            LikelyCause = cause,
        });
        Conclude();
    }

    /// <summary>Tells of a broken rule. Never throws; <see cref="Conclude"/> does.</summary>
    /// <param name="violation">What was broken.</param>
    /// <param name="ofThisCall">Whether the call on this thread broke it; false for what a device did.</param>
    internal void Note(DmaViolation violation, bool ofThisCall = true)
    {
        Interlocked.Increment(ref _violations);
        Tell(violation);
        if (!ofThisCall) { return; }
        if (_mode == VerificationMode.Throw) { t_broken ??= violation; }
        else if (_mode == VerificationMode.Break && Debugger.IsAttached) { Debugger.Break(); }
    }

    /// <summary>A refused DMA, explained: the rule that only hardware sees. Never throws: no call broke it.</summary>
    internal void OnBlocked(DmaReport report) => Note(
        new()
        {
            Rule = VerificationRule.IommuViolation,
            SubCode = (int)report.Kind + 1,
            Line = $"DMA blocked: {report.Headline}",
            Device = report.Fault.Device,
            Driver = report.Driver,
            Mapping = report.Mapping,
            Other = report.Nearest?.Mapping,
            LikelyCause = report.LikelyCause,
            Blocked = report,
        },
        ofThisCall: false);

    /// <summary>Ends a call: throws the first rule it broke, if throwing is asked.</summary>
    internal static void Conclude()
    {
        if (t_broken is not null) { throw Broken(); }
    }

    /// <summary>The first rule that the call on this thread broke, as what to throw for it.</summary>
    internal static DmaViolationException Broken()
    {
        DmaViolation broken = t_broken!;
        t_broken = null;
        return new(broken);
    }

    // A subscriber that breaks a rule itself is counted and not told, or it would be told for ever.
    private void Tell(DmaViolation violation)
    {
        if (t_telling) { return; }
        Action<DmaViolation>? subscribers = Violated;
        if (subscribers is null)
        {
            Trace.Write(violation.ToString());
            return;
        }
        t_telling = true;
        foreach (Action<DmaViolation> subscriber in Delegate.EnumerateInvocationList(subscribers))
        {
            try { subscriber(violation); }
            catch (Exception e) { _failures.Add(e); }
        }
        t_telling = false;
    }
}
