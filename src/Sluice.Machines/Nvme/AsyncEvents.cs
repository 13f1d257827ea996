namespace Sluice.Machines.Nvme;

/// <summary>
/// Events that the controller reports through Asynchronous Event Requests: what happened waits for a request, and a
/// type once reported stays silent until its log page is read.
/// </summary>
/// <remarks>NVM Express base specification 1.4, 5.2.</remarks>
internal sealed class AsyncEvents
{
    /// <summary>Requests that may wait at once (AERL + 1).</summary>
    public const int MaxRequests = 4;

    /// <summary>A doorbell of a queue that does not exist was written.</summary>
    public const uint InvalidDoorbellRegister = 0x01_00_00;

    /// <summary>A doorbell was written with a value that its queue cannot have.</summary>
    public const uint InvalidDoorbellValue = 0x01_01_00;

    /// <summary>The temperature is over its threshold.</summary>
    public const uint TemperatureThreshold = 0x02_01_01;

    private readonly List<uint> _waitingEvents = new(8);
    private readonly ushort[] _requests = new ushort[MaxRequests];
    private int _requestCount;
    private uint _silentTypes;

    public bool TryAddRequest(ushort command)
    {
        if (_requestCount == MaxRequests) { return false; }
        _requests[_requestCount++] = command;
        return true;
    }

    public bool TryRemoveRequest(ushort command)
    {
        int index = _requests.AsSpan(0, _requestCount).IndexOf(command);
        if (index < 0) { return false; }
        RemoveAt(index);
        return true;
    }

    /// <summary>Something happened; equal events that wait are one.</summary>
    public void Raise(uint what)
    {
        if (!_waitingEvents.Contains(what)) { _waitingEvents.Add(what); }
    }

    /// <summary>The next event to report, and the request to report it with.</summary>
    public bool TryTake(out ushort command, out uint what)
    {
        (command, what) = (0, 0);
        if (_requestCount == 0) { return false; }
        int index = _waitingEvents.FindIndex(e => (_silentTypes & (1u << (int)(e & 7))) == 0);
        if (index < 0) { return false; }
        (command, what) = (_requests[0], _waitingEvents[index]);
        RemoveAt(0);
        _waitingEvents.RemoveAt(index);
        _silentTypes |= 1u << (int)(what & 7);
        return true;
    }

    /// <summary>A log page was read: the type that it explains may be reported again.</summary>
    public void Acknowledge(byte logPage)
    {
        if (logPage is 1 or 2) { _silentTypes &= ~(1u << (logPage - 1)); }
    }

    public void Reset()
    {
        _waitingEvents.Clear();
        (_requestCount, _silentTypes) = (0, 0);
    }

    private void RemoveAt(int index)
    {
        _requests.AsSpan(index + 1, _requestCount - index - 1).CopyTo(_requests.AsSpan(index));
        _requestCount--;
    }
}
