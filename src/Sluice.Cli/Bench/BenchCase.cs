namespace Sluice.Cli.Bench;

/// <summary>
/// One row of the speed table: a piece of work, what it is held against in the same run, and a published figure.
/// </summary>
internal abstract class BenchCase : IDisposable
{
    /// <summary>The row's name on the command line and in JSON.</summary>
    public abstract string Name { get; }

    /// <summary>What one operation is.</summary>
    public abstract string What { get; }

    /// <summary>
    /// What the project holds itself to, in nanoseconds per operation; null where the goal is the ratio.
    /// </summary>
    public virtual double? GoalNanoseconds => null;

    /// <summary>
    /// The least speed relative to the baseline that the project holds itself to; null where the goal is a time.
    /// </summary>
    public virtual double? GoalRatio => null;

    /// <summary>
    /// Heap bytes per operation that the project holds itself to; null for rows that allocate nothing.
    /// </summary>
    public virtual long? GoalBytes => null;

    /// <summary>What the baseline does.</summary>
    public abstract string BaselineName { get; }

    /// <summary>
    /// Somebody else's figure for like work, with its source; for orientation only, it comes from another machine.
    /// </summary>
    public virtual BenchAnchor? Anchor => null;

    /// <summary>How long to run before measuring, for the compiler to have its last word on all methods.</summary>
    public virtual TimeSpan WarmUp => TimeSpan.FromMilliseconds(600);

    /// <summary>About how long one operation takes, to size the first batch.</summary>
    public virtual double ExpectedNanoseconds => 50;

    /// <summary>Does the work <paramref name="operations"/> times.</summary>
    public abstract void Run(int operations);

    /// <summary>Does the baseline <paramref name="operations"/> times.</summary>
    public abstract void RunBaseline(int operations);

    /// <summary>A table that belongs to the row, measured once after it; null for most.</summary>
    public virtual BenchCopyOrMap? MeasureMore() => null;

    /// <inheritdoc/>
    public abstract void Dispose();
}

/// <summary>A published figure.</summary>
/// <param name="Name">Whose, and where it is published.</param>
/// <param name="NsPerOp">Nanoseconds per operation, as published.</param>
internal sealed record BenchAnchor(string Name, double NsPerOp);
