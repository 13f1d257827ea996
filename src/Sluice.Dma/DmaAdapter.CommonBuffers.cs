using System.Runtime.CompilerServices;

namespace Sluice.Dma;

// Common buffers live in the same table as transfers, so that a fault beside one can be explained. They hold no map
// registers.
public sealed partial class DmaAdapter
{
    private const string DisposeMember = "Dispose";

    /// <summary>Takes zeroed memory that processor and device use together.</summary>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="options">Rights and limits; null for reading and writing anywhere the device reaches.</param>
    /// <param name="site">Filled in by the compiler.</param>
    /// <param name="file">Filled in by the compiler.</param>
    /// <exception cref="DmaException">No memory, no logical space, or the device is blocked.</exception>
    public CommonBuffer AllocateCommonBuffer(
        uint length, CommonBufferOptions? options = null,
        [CallerMemberName] string site = "", [CallerFilePath] string file = "")
    {
        ArgumentOutOfRangeException.ThrowIfZero(length);
        options ??= new();
        if (options.Access is < DmaAccess.Read or > DmaAccess.ReadWrite)
        {
            throw new ArgumentOutOfRangeException(nameof(options), "a common buffer is for reading, writing or both");
        }
        LogicalAddress limit = Description.LastAddress;
        if (options.LastAddress is { } wanted && wanted < limit) { limit = wanted; }

        _gate.Enter();
        bool closed = _closed;
        Mapping? mapping = closed ? null : _table.Take();
        long number = ++_number;
        _gate.Exit();
        if (mapping is null)
        {
            _verifier?.OnUsedAfterRelease("a common buffer", new(site, file));
            throw Explain(DmaFailure.Disposed, length, default);
        }

        DmaFailure failure = _backend.TryAllocateCommon(length, options.Access, limit, out CommonMemory memory);
        if (failure != DmaFailure.None)
        {
            _gate.Enter();
            _table.GiveUnused(mapping);
            _gate.Exit();
            throw failure == DmaFailure.OutOfResources
                ? new DmaException(failure,
                    $"no memory for a common buffer of {length} bytes that {Driver} {Device} reaches")
                : Explain(failure, length, default);
        }
        mapping.Transfer = new(null, 0, length, options.Access.ToDirection());
        mapping.Common = memory;
        (mapping.Only, mapping.Count) = (new(memory.First, length), 1);
        _verifier?.OnCommon(mapping, number);
        mapping.Publish(number, memory.Footprint, new(options.Tag, site, file), common: true);
        return new(this, _platform.Memory, mapping, number, length);
    }

    internal void FreeCommonBuffer(Mapping mapping, long number)
    {
        if (!mapping.TryClose(number)) { return; }
        if (!_backend.FreeCommon(mapping.Common))
        {
            Abandon(mapping);
            return;
        }
        _verifier?.Forget(mapping);
        (mapping.Transfer, mapping.Common) = (default, default);
        mapping.Retire(DisposeMember, nameof(CommonBuffer), _platform.Clock.Nanoseconds, exact: true);
        _gate.Enter();
        _table.Give(mapping);
        _returned++;
        bool othersWait = OthersWait;
        _gate.Exit();
        if (othersWait) { Serve(); }
    }
}
