using System.Runtime.CompilerServices;

namespace Sluice.Dma;

// Requests that their driver made beforehand: the same queue, but the place in it is the driver's.
public sealed partial class DmaAdapter
{
    /// <summary>
    /// As <see cref="GetScatterGatherList"/>, with a request made beforehand: nothing is allocated while it waits or is
    /// served.
    /// </summary>
    /// <param name="request">The request; free until now.</param>
    /// <param name="mdl">The buffer; it may be a chain.</param>
    /// <param name="offset">The first byte, counted from the MDL's start.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="direction">Which way the data goes.</param>
    /// <param name="callback">Takes the list, or the failure; exactly once unless the request is withdrawn.</param>
    /// <param name="state">Handed to the callback.</param>
    /// <param name="tag">Any number that helps to recognise the request in a report.</param>
    /// <param name="site">Filled in by the compiler.</param>
    /// <param name="file">Filled in by the compiler.</param>
    /// <exception cref="InvalidOperationException">The request is in use, or another adapter's.</exception>
    public void BuildScatterGatherList(
        ScatterGatherRequest request, Mdl mdl, uint offset, uint length, DmaDirection direction,
        ScatterGatherCallback callback, object? state = null, uint tag = 0,
        [CallerMemberName] string site = "", [CallerFilePath] string file = "")
    {
        ArgumentNullException.ThrowIfNull(request);
        ArgumentNullException.ThrowIfNull(callback);
        ThrowIfForeign(request);
        Check(mdl, offset, length, direction, site, file);
        request.Begin();
        Transfer transfer = new(mdl, offset, length, direction, request.Elements);
        MappingOrigin origin = new(tag, site, file);
        ScatterGatherLease list;
        DmaFailure failure;
        PhysicalAddress culprit;
        try { failure = TryMap(transfer, origin, ahead: false, out list, out culprit); }
        catch
        {
            request.End();
            throw;
        }
        if (failure != DmaFailure.OutOfResources || !CouldEver(transfer))
        {
            request.End();
            if (failure == DmaFailure.RuleBroken) { throw DmaVerifier.Broken(); }
            if (failure != DmaFailure.None) { request.Problem = Explain(failure, length, culprit); }
            callback(list, failure, state);
            return;
        }
        ScatterGatherWaiter waiter = request.Waiter;
        (waiter.Transfer, waiter.Origin, waiter.Callback, waiter.CallbackState) = (transfer, origin, callback, state);
        EnqueueAndServe(waiter);
    }

    /// <summary>As <see cref="TryGetScatterGatherList"/>, into the array of a request made beforehand.</summary>
    /// <param name="request">Whose elements the list uses until it is put; it does not wait meanwhile.</param>
    /// <param name="mdl">The buffer; it may be a chain.</param>
    /// <param name="offset">The first byte, counted from the MDL's start.</param>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="direction">Which way the data goes.</param>
    /// <param name="list">The list; put it exactly once.</param>
    /// <param name="tag">Any number that helps to recognise the request in a report.</param>
    /// <param name="site">Filled in by the compiler.</param>
    /// <param name="file">Filled in by the compiler.</param>
    /// <returns>None, or why not. With <see cref="DmaFailure.OutOfResources"/> waiting may help.</returns>
    /// <exception cref="InvalidOperationException">The request is another adapter's.</exception>
    public DmaFailure TryBuildScatterGatherList(
        ScatterGatherRequest request, Mdl mdl, uint offset, uint length, DmaDirection direction,
        out ScatterGatherLease list, uint tag = 0,
        [CallerMemberName] string site = "", [CallerFilePath] string file = "")
    {
        ArgumentNullException.ThrowIfNull(request);
        ThrowIfForeign(request);
        Check(mdl, offset, length, direction, site, file);
        DmaFailure failure = TryMap(new(mdl, offset, length, direction, request.Elements), new(tag, site, file),
            ahead: false, out list, out PhysicalAddress culprit);
        if (failure == DmaFailure.None) { return failure; }
        if (failure == DmaFailure.RuleBroken) { throw DmaVerifier.Broken(); }
        request.Problem = failure == DmaFailure.OutOfResources ? null : Explain(failure, length, culprit);
        return failure;
    }

    /// <summary>
    /// Pages that one transfer may touch at most: fewer than <see cref="MapRegisters"/> where the longest run of
    /// logical addresses within the device's reach is shorter or a pool to copy through is smaller, one for a device
    /// that takes one element where nothing joins pages, and 0 where nothing could ever be mapped.
    /// </summary>
    public int MostMapRegisters => Math.Min(MapRegisters, _backend.MostRegisters);

    /// <summary>
    /// As many map registers as can be granted at once, at most so many: grows a pool for them where there is one.
    /// </summary>
    internal int Provide(int wanted)
    {
        (int low, int high) = (0, Math.Min(wanted, MostMapRegisters));
        for (int middle = high; low < high; middle = low + ((high - low + 1) / 2))
        {
            if (CouldGrant(middle)) { low = middle; }
            else { high = middle - 1; }
        }
        return low;
    }

    /// <summary>Map registers that bytes of a buffer take: the pages they touch, part by part of a chain.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The range passes the buffer.</exception>
    public static int CountMapRegisters(Mdl mdl, uint offset, uint length)
    {
        ArgumentNullException.ThrowIfNull(mdl);
        return length == 0 ? 0 : RegistersOf(mdl, offset, length);
    }

    internal bool Withdraw(ScatterGatherRequest request)
    {
        _gate.Enter();
        bool ours = _waiters.Remove(request.Waiter);
        _gate.Exit();
        if (!ours) { return false; }
        GiveWaiter(request.Waiter);
        Serve();
        return true;
    }

    private void ThrowIfForeign(ScatterGatherRequest request)
    {
        if (request.Adapter != this)
        {
            throw new InvalidOperationException(
                $"a request of {request.Adapter.Driver} {request.Adapter.Device} was given to {Driver} {Device}");
        }
    }
}
