using Sluice.Dma;

namespace Sluice.Drivers.Nvme;

/// <summary>One buffer of a stream, and the request on it.</summary>
internal sealed class StreamBuffer(Mdl memory) : IDisposable
{
    private ValueTask _request;

    /// <summary>What the buffer is for.</summary>
    public enum Use : byte
    {
        Idle,

        /// <summary>Read ahead, in the window.</summary>
        Window,

        /// <summary>Being read, but nobody wants it any more.</summary>
        Stale,

        /// <summary>Being written.</summary>
        Write,
    }

    public Mdl Memory => memory;

    public Use Purpose { get; set; }

    /// <summary>The first byte of the namespace in it.</summary>
    public long First { get; set; }

    /// <summary>Bytes of the namespace in it.</summary>
    public int Length { get; set; }

    public bool IsPending { get; private set; }

    public Exception? Error { get; private set; }

    public void Begin(in ValueTask request) => (_request, IsPending, Error) = (request, true, null);

    /// <summary>Takes the result if it is there; false while the request runs.</summary>
    public bool TrySettle()
    {
        if (!IsPending) { return true; }
        if (!_request.IsCompleted) { return false; }
        IsPending = false;
        try
        {
            _request.GetAwaiter().GetResult();
        }
        catch (Exception e) when (e is IOException or DmaException)
        {
            Error = e;
        }
        return true;
    }

    /// <summary>Waits for the end of the request, not for its success.</summary>
    public async ValueTask WaitAsync(CancellationToken cancellation)
    {
        if (!IsPending) { return; }
        if (!cancellation.CanBeCanceled)
        {
            ValueTask request = _request;
            IsPending = false;
            try
            {
                await request.ConfigureAwait(false);
            }
            catch (Exception e) when (e is IOException or DmaException)
            {
                Error = e;
            }
            return;
        }
        Task task = _request.AsTask();
        _request = new(task); // a task may be awaited again, by whoever comes after a cancelled wait
        await task.WaitAsync(cancellation).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        cancellation.ThrowIfCancellationRequested();
        _ = TrySettle();
    }

    public void Dispose() => memory.Dispose();
}
