namespace Sluice.Dma.Wdm;

/// <summary>How urgent the code is that a processor runs. Only the lowest three matter to the DMA DDI.</summary>
public enum Irql : byte
{
    /// <summary>PASSIVE_LEVEL: ordinary threads; may wait and allocate.</summary>
    Passive = 0,

    /// <summary>APC_LEVEL: a thread that takes no asynchronous procedure calls.</summary>
    Apc = 1,

    /// <summary>DISPATCH_LEVEL: deferred procedure calls and spin locks; may not wait.</summary>
    Dispatch = 2,

    /// <summary>A device interrupt: nothing of the DMA DDI may be called here but a size query.</summary>
    Device = 3,

    /// <summary>HIGH_LEVEL.</summary>
    High = 15,
}

/// <summary>At which levels a function may be called.</summary>
public enum IrqlRule : byte
{
    /// <summary>At PASSIVE_LEVEL only.</summary>
    Passive,

    /// <summary>At DISPATCH_LEVEL only.</summary>
    Dispatch,

    /// <summary>At DISPATCH_LEVEL or below.</summary>
    UpToDispatch,

    /// <summary>At any level.</summary>
    Any,
}

/// <summary>What the rules allow.</summary>
public static class IrqlRules
{
    /// <summary>Whether the rule allows a call at this level.</summary>
    public static bool Allows(this IrqlRule rule, Irql level) => rule switch
    {
        IrqlRule.Passive => level == Irql.Passive,
        IrqlRule.Dispatch => level == Irql.Dispatch,
        IrqlRule.UpToDispatch => level <= Irql.Dispatch,
        _ => true,
    };
}

/// <summary>A function called at a level that its rule forbids, or a level that was set the wrong way.</summary>
public sealed class IrqlException : InvalidOperationException
{
    /// <summary>A wrong level and its one clear line.</summary>
    public IrqlException(Irql level, string message) : base(message) => Level = level;

    internal IrqlException(DdiFunction function, Irql level, IrqlRule rule, string caller)
        : this(level, $"{caller} called {function} at {level} level; it is for {Words(rule)}")
    {
        (Function, Rule) = (function, rule);
    }

    /// <summary>Where the processor was.</summary>
    public Irql Level { get; }

    /// <summary>What was called; null when no function of the DDI was.</summary>
    public DdiFunction? Function { get; }

    /// <summary>Where it may be called.</summary>
    public IrqlRule Rule { get; }

    private static string Words(IrqlRule rule) => rule switch
    {
        IrqlRule.Passive => "PASSIVE_LEVEL only",
        IrqlRule.Dispatch => "DISPATCH_LEVEL only",
        _ => "DISPATCH_LEVEL and below",
    };
}
