using System.Runtime.CompilerServices;

namespace Sluice.Dma;

// Common buffers live in the same table as transfers, so that a fault beside one can be explained. They hold no map
// registers.
public sealed partial class DmaAdapter
{
    private const string DisposeMember = "Dispose";

    /// <summary>Takes zeroed memory that processor and device use together.</summary>
    /// <remarks>
    /// Any length, at any time. Behind a remapping unit its frames lie scattered and are one run to the device; without
    /// one they must follow each other in memory, which may have run out.
    /// </remarks>
    /// <param name="length">Bytes, at least 1.</param>
    /// <param name="options">Rights, bounds and alignment; null for reading and writing anywhere the device
    /// reaches.</param>
    /// <param name="site">Filled in by the compiler.</param>
    /// <param name="file">Filled in by the compiler.</param>
    /// <exception cref="DmaException">No memory, no logical space, or the device is blocked.</exception>
    /// <exception cref="ArgumentOutOfRangeException">The bounds do not hold that many bytes.</exception>
    public CommonBuffer AllocateCommonBuffer(
        ulong length, CommonBufferOptions? options = null,
        [CallerMemberName] string site = "", [CallerFilePath] string file = "")
    {
        options ??= new();
        CommonRequest request = RequestOf(length, options);
        (Mapping mapping, long number) = TakeCommonRecord(length, new(site, file));
        DmaFailure failure = _backend.TryAllocateCommon(request, out CommonMemory memory);
        if (failure != DmaFailure.None)
        {
            GiveCommonRecord(mapping);
            throw failure == DmaFailure.OutOfResources
                ? ExplainCommon(failure, request, default)
                : Explain(failure, length, default);
        }
        return PublishCommon(mapping, number, memory, null, options, new(options.Tag, site, file));
    }

    /// <summary>Makes memory that exists already a common buffer; its owner keeps it.</summary>
    /// <remarks>
    /// The MDL's frames stay pinned until the buffer is disposed. Frames that lie scattered need a remapping unit;
    /// without one they must follow each other and lie within the device's reach. It is not meant for the path that
    /// must make progress: nothing is set aside for it.
    /// </remarks>
    /// <param name="mdl">The memory: whole pages. Without <paramref name="offset"/> and <paramref name="length"/> it
    /// must not be a chain.</param>
    /// <param name="options">Rights, bounds and alignment; null for reading and writing anywhere the device
    /// reaches.</param>
    /// <param name="offset">The first byte of the section to use, a multiple of 4096, inside this one MDL.</param>
    /// <param name="length">Bytes of the section, a multiple of 4096; 0 for all of the MDL.</param>
    /// <param name="site">Filled in by the compiler.</param>
    /// <param name="file">Filled in by the compiler.</param>
    /// <exception cref="ArgumentException">Not whole pages, a chain, or a section that passes the MDL's
    /// end.</exception>
    /// <exception cref="DmaException">The frames lie scattered or out of reach and nothing remaps, fewer rights than
    /// both where nothing enforces them, no logical space, or the device is blocked.</exception>
    public CommonBuffer CreateCommonBuffer(
        Mdl mdl, CommonBufferOptions? options = null, uint offset = 0, uint length = 0,
        [CallerMemberName] string site = "", [CallerFilePath] string file = "")
    {
        options ??= new();
        PhysicalAddress[] pages = WholePages(mdl, offset, length);
        ulong bytes = (ulong)pages.Length << PageLog2;
        CommonRequest request = RequestOf(bytes, options);
        (Mapping mapping, long number) = TakeCommonRecord(bytes, new(site, file));
        bool pinned = false, done = false;
        try
        {
            mdl.PinChain();
            pinned = true;
            DmaFailure failure = _backend.TryMapCommon(
                request, pages, out CommonMemory memory, out PhysicalAddress culprit);
            if (failure == DmaFailure.Dead) { KeepForGood(mdl); }
            if (failure != DmaFailure.None) { throw ExplainCommon(failure, request, culprit); }
            done = true;
            return PublishCommon(mapping, number, memory, mdl, options, new(options.Tag, site, file));
        }
        finally
        {
            if (!done) { GiveCommonRecord(mapping); }
            if (pinned && !done) { mdl.UnpinChain(); }
        }
    }

    /// <summary>Takes several equal common buffers in one call: all of them or none.</summary>
    /// <param name="count">How many, at least 1.</param>
    /// <param name="length">Bytes in each, at least 1.</param>
    /// <param name="options">As for one; each lies within the bounds, aligned by itself.</param>
    /// <param name="site">Filled in by the compiler.</param>
    /// <param name="file">Filled in by the compiler.</param>
    /// <exception cref="DmaException">No memory, no logical space, or the device is blocked.</exception>
    public CommonBufferVector AllocateCommonBufferVector(
        int count, ulong length, CommonBufferOptions? options = null,
        [CallerMemberName] string site = "", [CallerFilePath] string file = "")
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(count);
        var buffers = new CommonBuffer?[count];
        int made = 0;
        try
        {
            for (; made < count; made++) { buffers[made] = AllocateCommonBuffer(length, options, site, file); }
            return new(this, buffers, length);
        }
        catch (DmaException)
        {
            while (made-- > 0) { buffers[made]!.Dispose(); }
            throw;
        }
    }

    internal void FreeCommonBuffer(Mapping mapping, long number)
    {
        if (!mapping.TryClose(number)) { return; }
        bool freed = false;
        Exception? thrown = null;
        try { freed = _backend.FreeCommon(mapping.Common); }
        catch (Exception e) { thrown = e; }
        if (!freed)
        {
            AbandonAfter(thrown, mapping);
            return;
        }
        Mdl? mdl = mapping.Transfer.Mdl;
        _verifier?.Forget(mapping);
        (mapping.Transfer, mapping.Common) = (default, default);
        mapping.Retire(DisposeMember, nameof(CommonBuffer), _platform.Clock.Nanoseconds, exact: true);
        mdl?.UnpinChain();
        _gate.Enter();
        _table.Give(mapping);
        _returned++;
        bool othersWait = OthersWait;
        _gate.Exit();
        if (othersWait) { Serve(); }
    }

    private CommonRequest RequestOf(ulong length, CommonBufferOptions options)
    {
        ArgumentOutOfRangeException.ThrowIfZero(length);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, (ulong)Array.MaxLength << PageLog2);
        if (options.Access is < DmaAccess.Read or > DmaAccess.ReadWrite)
        {
            throw new ArgumentOutOfRangeException(nameof(options), "a common buffer is for reading, writing or both");
        }
        if (options.AlignmentLog2 is < 0 or > 63)
        {
            throw new ArgumentOutOfRangeException(nameof(options), $"2^{options.AlignmentLog2} is no alignment");
        }
        LogicalAddress first = options.FirstAddress ?? default;
        LogicalAddress last = Description.LastAddress;
        if (options.LastAddress is { } wanted && wanted < last) { last = wanted; }
        if (first > last || last - first < length - 1)
        {
            throw new ArgumentOutOfRangeException(nameof(options),
                $"{length} bytes do not fit between {first} and {last}, the last address that {Driver} {Device} "
                + "drives or may take");
        }
        return new(length, options.Access, new(first, last), options.AlignmentLog2, options.LargePages);
    }

    private static PhysicalAddress[] WholePages(Mdl mdl, uint offset, uint length)
    {
        ArgumentNullException.ThrowIfNull(mdl);
        bool section = offset != 0 || length != 0;
        if (mdl.Next is not null && !section)
        {
            throw new ArgumentException("a common buffer lies in one MDL, and this is a chain: name a section of it",
                nameof(mdl));
        }
        if (length == 0) { length = mdl.ByteCount - Math.Min(offset, mdl.ByteCount); }
        if (length == 0 || offset > mdl.ByteCount || length > mdl.ByteCount - offset)
        {
            throw new ArgumentOutOfRangeException(nameof(length),
                $"{length} bytes from {offset} are not inside this one MDL of {mdl.ByteCount} bytes");
        }
        if (mdl.ByteOffset != 0 || ((offset | length) & PageMask) != 0)
        {
            throw new ArgumentException(
                $"a common buffer has whole pages, and these are {length} bytes from {offset} of an MDL that starts "
                + $"{mdl.ByteOffset} bytes into its first page", nameof(mdl));
        }
        return mdl.Pages.Slice((int)(offset >> PageLog2), (int)(length >> PageLog2)).ToArray();
    }

    private (Mapping Mapping, long Number) TakeCommonRecord(
        ulong length, in CallSite site)
    {
        _gate.Enter();
        DmaFailure end = _end;
        Mapping? mapping = end != DmaFailure.None ? null : _table.Take();
        long number = ++_number;
        _gate.Exit();
        if (mapping is not null) { return (mapping, number); }
        if (end == DmaFailure.Disposed) { _verifier?.OnUsedAfterRelease("a common buffer", site); }
        throw Explain(end, length, default);
    }

    private void GiveCommonRecord(Mapping mapping)
    {
        _gate.Enter();
        _table.GiveUnused(mapping);
        _gate.Exit();
    }

    private CommonBuffer PublishCommon(
        Mapping mapping, long number, in CommonMemory memory, Mdl? mdl, CommonBufferOptions options,
        in MappingOrigin origin)
    {
        mapping.Transfer = new(mdl, 0, 0, options.Access.ToDirection());
        mapping.Common = memory;
        (mapping.Only, mapping.Count) = (new(memory.First, (uint)Math.Min(memory.Length, uint.MaxValue)), 1);
        _verifier?.OnCommon(mapping, number);
        mapping.Publish(number, memory.Footprint, origin, common: true);
        return new(this, _platform.Memory, mapping, number);
    }

    private DmaException ExplainCommon(DmaFailure failure, in CommonRequest request, PhysicalAddress culprit) =>
        failure switch
        {
            DmaFailure.NotSupported => new(failure,
                $"nothing holds {Driver} {Device} to {request.Access} access: rights need a remapping unit"),
            DmaFailure.TooFragmented => new(failure,
                $"the page at {culprit} does not follow the one before it, and nothing remaps for {Driver} {Device}: "
                + "without a remapping unit a common buffer is one run of memory"),
            DmaFailure.Unreachable => new(failure,
                $"the page at {culprit} is not in {request.Bounds} at a multiple of 2^{request.AlignmentLog2}, and "
                + $"nothing remaps for {Driver} {Device}"),
            DmaFailure.OutOfResources => new(failure,
                $"no memory, or no free logical addresses in {request.Bounds} at a multiple of "
                + $"2^{request.AlignmentLog2}, for a common buffer of {request.Length} bytes that {Driver} {Device} "
                + "reaches"),
            _ => Explain(failure, request.Length, culprit),
        };
}
