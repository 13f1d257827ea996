namespace Sluice.Dma;

/// <summary>How a call of a session's client ended. What a client gets wrong is a result, never an exception.</summary>
public enum DmaSessionStatus : byte
{
    /// <summary>Done.</summary>
    Done,

    /// <summary>The session is over: everything was taken back.</summary>
    Revoked,

    /// <summary>The handle is none of this session's, of another kind, or was given back.</summary>
    BadHandle,

    /// <summary>The client's pages or handles are used up.</summary>
    OverQuota,

    /// <summary>Zero bytes, more than the buffer or the device takes, or no direction.</summary>
    BadRange,

    /// <summary>The buffer is mapped: unmap it first.</summary>
    InUse,

    /// <summary>The machine is out of memory, map registers or logical addresses now.</summary>
    OutOfResources,

    /// <summary>The device is blocked, and stays so.</summary>
    Dead,
}
