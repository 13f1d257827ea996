namespace Sluice.Dma.Wdm;

/// <summary>
/// The execution levels of a machine: every thread that calls is a processor with a level of its own, PASSIVE_LEVEL
/// at first, and a queue of deferred procedure calls (DPCs).
/// </summary>
/// <remarks>
/// Levels are a discipline that is checked, not a way to keep other threads out: nothing is suspended. Safe from any
/// thread; each sees and changes its own level only.
/// </remarks>
public sealed class IrqlScheduler
{
    private readonly ThreadLocal<Processor> _processor = new(static () => new());

    /// <summary>The level of the calling thread's processor.</summary>
    public Irql Level => _processor.Value!.Level;

    /// <summary>
    /// Raises the level until the scope is disposed. Falling below DISPATCH_LEVEL then runs the DPCs that wait.
    /// </summary>
    /// <exception cref="IrqlException">The processor is above <paramref name="level"/> already.</exception>
    public Scope RaiseTo(Irql level)
    {
        Processor processor = _processor.Value!;
        if (level < processor.Level)
        {
            throw new IrqlException(
                processor.Level, $"a level is raised, never lowered, from {processor.Level} to {level}");
        }
        Scope scope = new(this, processor.Level, level);
        processor.Level = level;
        return scope;
    }

    /// <summary>
    /// Queues a DPC for the calling processor. It runs at DISPATCH_LEVEL: before this returns when the level is below
    /// that, else when the level falls below it.
    /// </summary>
    public void QueueDpc(Action<object?> routine, object? context = null)
    {
        ArgumentNullException.ThrowIfNull(routine);
        Processor processor = _processor.Value!;
        processor.Dpcs.Enqueue((routine, context));
        if (processor.Level < Irql.Dispatch) { RunDpcs(processor); }
    }

    internal void Check(DdiFunction function, string caller)
    {
        Irql level = _processor.Value!.Level;
        IrqlRule rule = DdiTable.RuleOf(function);
        if (!rule.Allows(level)) { throw new IrqlException(function, level, rule, caller); }
    }

    /// <summary>DISPATCH_LEVEL for a callback, wherever the thread that makes it comes from.</summary>
    internal Scope Callback() => RaiseTo(Level > Irql.Dispatch ? Level : Irql.Dispatch);

    private void Lower(Irql from, Irql to)
    {
        Processor processor = _processor.Value!;
        if (processor.Level != from)
        {
            throw new IrqlException(
                processor.Level, $"a scope at {from} level ends at {processor.Level} level: scopes nest");
        }
        processor.Level = to;
        if (to < Irql.Dispatch && processor.Dpcs.Count > 0) { RunDpcs(processor); }
    }

    private static void RunDpcs(Processor processor)
    {
        Irql before = processor.Level;
        processor.Level = Irql.Dispatch;
        try
        {
            while (processor.Dpcs.TryDequeue(out (Action<object?> Routine, object? Context) dpc))
            {
                dpc.Routine(dpc.Context);
            }
        }
        finally { processor.Level = before; }
    }

    private sealed class Processor
    {
        internal readonly Queue<(Action<object?> Routine, object? Context)> Dpcs = new();
        internal Irql Level;
    }

    /// <summary>A raised level; dispose it in the thread that raised it, inner scopes first.</summary>
    public readonly struct Scope : IDisposable, IEquatable<Scope>
    {
        private readonly IrqlScheduler? _scheduler;
        private readonly Irql _old;
        private readonly Irql _new;

        internal Scope(IrqlScheduler scheduler, Irql old, Irql raised) =>
            (_scheduler, _old, _new) = (scheduler, old, raised);

        /// <summary>Back to the level before.</summary>
        /// <exception cref="IrqlException">An inner scope was not disposed.</exception>
        public void Dispose() => _scheduler?.Lower(_new, _old);

        /// <inheritdoc/>
        public bool Equals(Scope other) => _scheduler == other._scheduler && _old == other._old && _new == other._new;

        /// <inheritdoc/>
        public override bool Equals(object? obj) => obj is Scope other && Equals(other);

        /// <inheritdoc/>
        public override int GetHashCode() => HashCode.Combine(_scheduler, _old, _new);

        /// <summary>Whether both are the same raise.</summary>
        public static bool operator ==(Scope left, Scope right) => left.Equals(right);

        /// <summary>Whether they are different raises.</summary>
        public static bool operator !=(Scope left, Scope right) => !left.Equals(right);
    }
}
