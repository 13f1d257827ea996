using Sluice.Formats.Vtd;
using Sluice.Remapping.Units;

namespace Sluice.Remapping.Vtd;

/// <summary>The write buffer of a unit that has one (CAP.RWBF). Safe from any thread.</summary>
/// <remarks>VT-d specification 6.8.</remarks>
/// <param name="capability">Whether it has one.</param>
/// <param name="commands">Flushes it.</param>
/// <param name="life">Where the unit is given up.</param>
internal sealed class WriteBuffer(VtdCapability capability, GlobalCommands commands, UnitLife life)
{
    /// <summary>
    /// Makes table writes visible to a unit that keeps them back. One that does not confirm it in time is given up, as
    /// with any other wait: nobody knows which tables it sees.
    /// </summary>
    public bool TryFlush()
    {
        if (!capability.NeedsWriteBufferFlush) { return true; }
        if (life.IsDead) { return false; }
        Exception? cause = null;
        try
        {
            if (commands.TryFlushWriteBuffer()) { return true; }
        }
        catch (Exception e)
        {
            // As any register access that throws: whoever changed the tables has to undo it, and not to unwind.
            cause = e;
        }
        life.Die(cause);
        return false;
    }
}
