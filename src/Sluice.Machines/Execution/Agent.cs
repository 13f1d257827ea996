namespace Sluice.Machines;

/// <summary>
/// Something that works on its own: a device, the interrupt dispatcher, the timers. It is a function that does one
/// bounded piece of work and says whether there is more; <see cref="Execution"/> decides when it runs.
/// </summary>
internal abstract class Agent(string name, Func<bool> step, Action<Agent, Exception> onCrash)
{
    private volatile bool _dead;

    public string Name { get; } = name;

    /// <summary>
    /// There may be work. From any thread; what was written before is visible to the step that follows.
    /// </summary>
    public abstract void Wake();

    /// <summary>
    /// Returns once the step that may be running on another thread is over. One that begins meanwhile sees whatever was
    /// written before.
    /// </summary>
    /// <exception cref="TimeoutException">Ten seconds were not enough.</exception>
    public virtual void WaitForStep()
    {
    }

    /// <summary>One piece of work; false when there is nothing to do. A step that throws is the agent's last.</summary>
    public bool RunOne()
    {
        if (_dead) { return false; }
        try
        {
            return step();
        }
        catch (Exception e)
        {
            _dead = true;
            onCrash(this, e);
            return false;
        }
    }
}
