namespace Sluice.Dma.Wdm;

/// <summary>How far a transaction is. One owner moves it on from each step; who waits has none.</summary>
internal enum TransactionStep
{
    /// <summary>Made, or released.</summary>
    Created,

    /// <summary>Ready for its first transfer.</summary>
    Initialized,

    /// <summary>A call asks for the next transfer's registers. Its request may wait already.</summary>
    Staging,

    /// <summary>The request waits, and no call is under way.</summary>
    Waiting,

    /// <summary>Its turn came: whoever runs the callback has it, until the driver is told to program.</summary>
    Mapping,

    /// <summary>The driver has it, to complete it.</summary>
    Transferring,

    /// <summary>A call has it, and ends the transfer.</summary>
    Completing,

    /// <summary>Over: a completion said so.</summary>
    Completed,

    /// <summary>Over: a cancellation said so.</summary>
    Withdrawn,

    /// <summary>Over: it could not be mapped.</summary>
    Refused,
}

/// <summary>
/// The one word that says where a transaction is, which of its transfers it is about, and whether its I/O was
/// cancelled. Every end is one compare-and-swap of it, so it has exactly one author.
/// </summary>
internal struct TransactionState
{
    private const int StepBits = 4;
    private const long StepMask = (1 << StepBits) - 1;
    private const long CancelledBit = 1 << StepBits;
    private const int RoundShift = StepBits + 1;

    private long _word;

    /// <summary>Where it is.</summary>
    internal readonly TransactionStep Step => StepOf(Volatile.Read(in _word));

    /// <summary>Counts transfers, so that what comes late is not taken for news of the next one.</summary>
    internal readonly long Round => Volatile.Read(in _word) >> RoundShift;

    /// <summary>Whether the I/O was cancelled.</summary>
    internal readonly bool IsCancelled => (Volatile.Read(in _word) & CancelledBit) != 0;

    /// <summary>Whether nothing is under way, so that it may be initialized or released.</summary>
    internal readonly bool IsIdle => Step is <= TransactionStep.Initialized or >= TransactionStep.Completed;

    /// <summary>Whether this is the present transfer, at that step.</summary>
    internal readonly bool Is(long round, TransactionStep step)
    {
        long word = Volatile.Read(in _word);
        return word >> RoundShift == round && StepOf(word) == step;
    }

    /// <summary>By the owner of the step it is at, or while it is idle: nobody else moves it.</summary>
    internal void Set(TransactionStep step, bool forgetCancel = false)
    {
        while (true)
        {
            long seen = Volatile.Read(ref _word);
            long next = (seen & ~(forgetCancel ? StepMask | CancelledBit : StepMask)) | (long)step;
            if (Interlocked.CompareExchange(ref _word, next, seen) == seen) { return; }
        }
    }

    /// <summary>From a step to another. True for one caller.</summary>
    internal bool TryMove(TransactionStep from, TransactionStep to, out long round)
    {
        while (true)
        {
            long seen = Volatile.Read(ref _word);
            round = seen >> RoundShift;
            if (StepOf(seen) != from) { return false; }
            if (Interlocked.CompareExchange(ref _word, (seen & ~StepMask) | (long)to, seen) == seen) { return true; }
        }
    }

    /// <summary>As the other, for one transfer.</summary>
    internal bool TryMove(long round, TransactionStep from, TransactionStep to)
    {
        while (true)
        {
            long seen = Volatile.Read(ref _word);
            if (seen >> RoundShift != round || StepOf(seen) != from) { return false; }
            if (Interlocked.CompareExchange(ref _word, (seen & ~StepMask) | (long)to, seen) == seen) { return true; }
        }
    }

    /// <summary>
    /// The next transfer begins. From <see cref="TransactionStep.Completing"/> not when the I/O was cancelled.
    /// </summary>
    internal bool TryStage(TransactionStep from, out long round)
    {
        while (true)
        {
            long seen = Volatile.Read(ref _word);
            round = (seen >> RoundShift) + 1;
            bool cancelled = from == TransactionStep.Completing && (seen & CancelledBit) != 0;
            if (StepOf(seen) != from || cancelled) { return false; }
            long next = (round << RoundShift) | (seen & CancelledBit) | (long)TransactionStep.Staging;
            if (Interlocked.CompareExchange(ref _word, next, seen) == seen) { return true; }
        }
    }

    /// <summary>The I/O is to end. False when there is none, or it is over.</summary>
    internal bool TryCancel(out TransactionStep step)
    {
        while (true)
        {
            long seen = Volatile.Read(ref _word);
            step = StepOf(seen);
            if (step is TransactionStep.Created or >= TransactionStep.Completed) { return false; }
            if (Interlocked.CompareExchange(ref _word, seen | CancelledBit, seen) == seen) { return true; }
        }
    }

    private static TransactionStep StepOf(long word) => (TransactionStep)(word & StepMask);
}
