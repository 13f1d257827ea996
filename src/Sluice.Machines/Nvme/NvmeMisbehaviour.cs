namespace Sluice.Machines.Nvme;

/// <summary>How a broken controller treats a command: for testing drivers.</summary>
public enum NvmeMisbehaviour : byte
{
    /// <summary>As it should.</summary>
    None,

    /// <summary>
    /// Keeps the command without an answer until it is aborted, its queue is deleted, or the controller is reset.
    /// </summary>
    Hold,

    /// <summary>As <see cref="Hold"/>, and ignores aborts of it.</summary>
    HoldDeaf,

    /// <summary>Does the command and says so twice: once more when the next command is done.</summary>
    CompleteTwice,

    /// <summary>Stops dead: no command is answered any more, and a reset never ends.</summary>
    Die,

    /// <summary>Declares a fatal error (CSTS.CFS) and stops; a reset repairs it.</summary>
    Fail,
}

/// <summary>A command as <see cref="NvmeModel.Misbehave"/> sees it.</summary>
/// <param name="Queue">The submission queue; 0 is the admin queue.</param>
/// <param name="Opcode">The opcode in that queue's command set.</param>
/// <param name="CommandId">The driver's id of the command.</param>
public readonly record struct NvmeCommandInfo(int Queue, byte Opcode, ushort CommandId);
