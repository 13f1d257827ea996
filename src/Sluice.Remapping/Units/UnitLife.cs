namespace Sluice.Remapping.Units;

/// <summary>
/// Whether a unit still answers. Whoever finds out that it does not gives it up here: once, for good. Safe from any
/// thread.
/// </summary>
/// <param name="unit">The unit, for messages: only its text is used.</param>
/// <param name="died">
/// Runs once, on the thread that gives the unit up: blocks what can be blocked and tells the system. Must not throw.
/// </param>
internal sealed class UnitLife(object unit, Action died)
{
    private volatile bool _dead;
    private int _told;

    /// <summary>Whether the unit was given up: nothing more is asked of it.</summary>
    public bool IsDead => _dead;

    /// <summary>What a register access threw, if that is what ended it.</summary>
    public Exception? Cause { get; private set; }

    /// <summary>Gives the unit up: every wait for it ends. Never inside a lock that <c>died</c> takes.</summary>
    /// <param name="cause">What a register access threw, if one did.</param>
    public void Die(Exception? cause = null)
    {
        Cause ??= cause;
        _dead = true;
        if (Interlocked.Exchange(ref _told, 1) == 0) { died(); }
    }

    /// <summary>What to throw where a unit did not confirm something.</summary>
    /// <param name="what">What it was asked for, as <c>attaching a device</c>.</param>
    public RemappingException Failed(string what) => Cause is { } cause
        ? new($"{unit} did not confirm {what}: {cause.Message}", cause)
        : new($"{unit} did not confirm {what} in time");
}
