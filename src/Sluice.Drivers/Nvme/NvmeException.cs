namespace Sluice.Drivers.Nvme;

/// <summary>What kind of thing went wrong.</summary>
public enum NvmeFailure : byte
{
    /// <summary>The controller answered a command with an error: see <see cref="NvmeException.Status"/>.</summary>
    Command,

    /// <summary>The command took too long and was aborted.</summary>
    TimedOut,

    /// <summary>The controller was reset while the command was in flight. It may or may not have happened.</summary>
    ControllerReset,

    /// <summary>The controller does not come back, is gone, or was shut down: nothing works any more.</summary>
    ControllerDead,

    /// <summary>The controller is not one that this driver can drive.</summary>
    Unsupported,
}

/// <summary>An NVMe command or controller failed.</summary>
public sealed class NvmeException : IOException
{
    internal NvmeException(NvmeFailure failure, string message)
        : base(message) => Failure = failure;

    internal NvmeException(string command, NvmeStatus status)
        : base($"{command} failed: {status}") => (Failure, Status) = (NvmeFailure.Command, status);

    /// <summary>What kind of failure it is.</summary>
    public NvmeFailure Failure { get; }

    /// <summary>
    /// The controller's answer when <see cref="Failure"/> is <see cref="NvmeFailure.Command"/>; success otherwise.
    /// </summary>
    public NvmeStatus Status { get; }
}
