namespace Sluice.Dma;

/// <summary>
/// A broken rule of the DDI: which one, by whom, about which mapping, and where it was noticed. One of the DMA reports;
/// <see cref="ToString"/> has it in words, <see cref="ToJson"/> for programs.
/// </summary>
/// <remarks>
/// States what the records prove and no more. Immutable, hence safe from any thread.
/// </remarks>
public sealed partial record DmaViolation
{
    /// <summary>The rule.</summary>
    public required VerificationRule Rule { get; init; }

    /// <summary>
    /// Which case of the rule, from 1, as the rule's description counts them; 0 where it has one only.
    /// </summary>
    public int SubCode { get; init; }

    /// <summary>What happened, in one line.</summary>
    public required string Line { get; init; }

    /// <summary>The device, or null when no adapter is concerned.</summary>
    public PciAddress? Device { get; init; }

    /// <summary>The driver, or null when no adapter is concerned.</summary>
    public string? Driver { get; init; }

    /// <summary>The mapping it is about, or null.</summary>
    public MappingRecord? Mapping { get; init; }

    /// <summary>How long the mapping lived when this was noticed, in nanoseconds; null where that is unknown.</summary>
    public long? AgeNanoseconds { get; init; }

    /// <summary>
    /// Another mapping that explains it: the one that has the bytes already, or the nearest live one; null without any.
    /// </summary>
    public MappingRecord? Other { get; init; }

    /// <summary>The call that noticed it; empty where no driver's call did.</summary>
    public CallSite Site { get; init; }

    /// <summary>What probably went wrong, or null when the evidence leaves more than one answer.</summary>
    public string? LikelyCause { get; init; }

    /// <summary>With <see cref="VerificationRule.IommuViolation"/>: the refused DMA, explained.</summary>
    public DmaReport? Blocked { get; init; }
}

/// <summary>A call broke a rule of the DDI, and <see cref="VerificationMode.Throw"/> asks to be told so.</summary>
/// <remarks>Thrown when the call's work is done or undone: nothing is left half mapped.</remarks>
public sealed class DmaViolationException : DmaException
{
    /// <summary>A violation as an exception.</summary>
    public DmaViolationException(DmaViolation violation)
        : base(DmaFailure.RuleBroken, $"DMA rule {violation.Rule.Info().Code}: {violation.Line}") =>
        Violation = violation;

    /// <summary>The rule, and all that is known.</summary>
    public DmaViolation Violation { get; }

    /// <summary>Whether the put that threw this did its work: false when there was nothing to put.</summary>
    internal bool CallWasDone => Violation.Rule is not (VerificationRule.ListPutTwice or VerificationRule.NeverGot
        or VerificationRule.NotOfThisAdapter or VerificationRule.ResultIgnored);
}
