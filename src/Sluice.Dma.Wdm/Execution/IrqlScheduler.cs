namespace Sluice.Dma.Wdm;

/// <summary>
/// Execution levels: every thread is a processor with a level of its own, PASSIVE_LEVEL at first, and a queue of
/// deferred procedure calls (DPCs).
/// </summary>
/// <remarks>
/// Levels are a discipline that is checked, not a way to keep other threads out: nothing is suspended. A thread sees
/// and changes its own level only, so an await must not lie inside a scope.
/// </remarks>
public static class IrqlScheduler
{
    [ThreadStatic]
    private static Processor? _processor;

    /// <summary>The level of the calling thread.</summary>
    public static Irql Level => Current.Level;

    private static Processor Current => _processor ??= new();

    /// <summary>
    /// Raises the level until the scope is disposed. Falling below DISPATCH_LEVEL then runs the DPCs that wait.
    /// </summary>
    /// <exception cref="IrqlException">The thread is above <paramref name="level"/> already.</exception>
    public static Scope RaiseTo(Irql level)
    {
        Processor processor = Current;
        if (level < processor.Level)
        {
            throw new IrqlException(
                processor.Level, $"a level is raised, never lowered, from {processor.Level} to {level}");
        }
        Scope scope = new(processor, level);
        processor.Level = level;
        return scope;
    }

    /// <summary>
    /// Queues a DPC of the calling thread. It runs at DISPATCH_LEVEL: before this returns when the level is below that,
    /// else when the level falls below it.
    /// </summary>
    public static void QueueDpc(Action<object?> routine, object? context = null)
    {
        ArgumentNullException.ThrowIfNull(routine);
        Processor processor = Current;
        processor.Dpcs.Enqueue((routine, context));
        if (processor.Level < Irql.Dispatch) { RunDpcs(processor); }
    }

    internal static void Check(DdiFunction function, string caller)
    {
        Irql level = Level;
        IrqlRule rule = DdiTable.RuleOf(function);
        if (!rule.Allows(level)) { throw new IrqlException(function, level, rule, caller); }
    }

    /// <summary>DISPATCH_LEVEL for a callback, wherever the thread that makes it comes from.</summary>
    internal static Scope Callback() => RaiseTo(Level > Irql.Dispatch ? Level : Irql.Dispatch);

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

    internal sealed class Processor
    {
        internal readonly Queue<(Action<object?> Routine, object? Context)> Dpcs = new();
        internal Irql Level;
    }

    /// <summary>A raised level; dispose it in the thread that raised it, inner scopes first.</summary>
    public readonly ref struct Scope
    {
        private readonly Processor _of;
        private readonly Irql _old;
        private readonly Irql _raised;

        internal Scope(Processor of, Irql raised) => (_of, _old, _raised) = (of, of.Level, raised);

        /// <summary>Back to the level before.</summary>
        /// <exception cref="IrqlException">An inner scope was not disposed.</exception>
        public void Dispose()
        {
            if (_of.Level != _raised)
            {
                throw new IrqlException(
                    _of.Level, $"a scope at {_raised} level ends at {_of.Level} level: scopes nest");
            }
            _of.Level = _old;
            if (_old < Irql.Dispatch && _of.Dpcs.Count > 0) { RunDpcs(_of); }
        }
    }
}
