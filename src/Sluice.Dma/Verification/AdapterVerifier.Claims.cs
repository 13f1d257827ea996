namespace Sluice.Dma;

// What a driver says of a mapping after its get, where a function makes it say so again, held against what it is.
internal sealed partial class AdapterVerifier
{
    /// <summary>A list is about to be put, or a transfer flushed, by a function that names its properties.</summary>
    /// <param name="list">The list.</param>
    /// <param name="direction">The direction said, or null where none is.</param>
    /// <param name="length">Bytes said, or null.</param>
    /// <param name="elements">Elements that the driver's copy of the list has, or null.</param>
    /// <param name="site">The driver's call.</param>
    internal void OnPut(
        in ScatterGatherLease list, DmaDirection? direction, uint? length, int? elements, in CallSite site)
    {
        if (list.Mapping?.Verified is not { } verified || verified.Number != list.Number) { return; }
        MappingRecord? record = RecordOf(list.Mapping);
        Transfer was = verified.Transfer;
        if (direction is { } way && way != was.Direction)
        {
            Note(VerificationRule.DirectionDiffers, 0, $"got for {was.Direction}, given back for {way}", site, record);
        }
        if (length is { } bytes && bytes != was.Length)
        {
            Note(VerificationRule.LengthDiffers, 0, $"got with {was.Length} bytes, given back with {bytes}", site,
                record);
        }
        if (elements is { } count && count != verified.Elements)
        {
            Note(VerificationRule.ElementCountDiffers, 0,
                $"got with {verified.Elements} elements, given back with {count}", site, record);
        }
    }

    /// <summary>A common buffer is about to be freed by a function that names its properties.</summary>
    /// <param name="buffer">The buffer, as the driver's handle names it.</param>
    /// <param name="address">The logical address said.</param>
    /// <param name="length">Bytes said.</param>
    /// <param name="sameProcessorAddress">Whether the processor's address said is the buffer's.</param>
    /// <param name="site">The driver's call.</param>
    internal void OnFree(
        CommonBuffer buffer, LogicalAddress address, ulong length, bool sameProcessorAddress, in CallSite site)
    {
        MappingRecord? record = RecordOf(buffer.Mapping);
        if (buffer.Adapter != _adapter)
        {
            if (record?.Number != buffer.Number) { record = null; }
            Note(VerificationRule.NotOfThisAdapter, 0,
                $"common buffer #{buffer.Number} belongs to {buffer.Adapter.Driver} {buffer.Adapter.Device}", site,
                record);
            return;
        }
        if (!buffer.Mapping.IsLive(buffer.Number))
        {
            if (record?.Number != buffer.Number) { record = null; }
            Note(VerificationRule.CommonBufferFreedTwice, 0,
                $"common buffer #{buffer.Number} at {buffer.Address} is freed again", site, record);
            return;
        }
        if (buffer.IsOfVector)
        {
            Note(VerificationRule.WrongFunction, 0,
                $"common buffer #{buffer.Number} is one of a vector, and is freed by itself", site, record);
            return;
        }
        if (length != buffer.Length)
        {
            Note(VerificationRule.LengthDiffers, 0, $"allocated with {buffer.Length} bytes, freed with {length}", site,
                record);
        }
        if (address != buffer.Address)
        {
            Note(VerificationRule.AddressDiffers, 0, $"allocated at {buffer.Address}, freed at {address}", site,
                record);
        }
        else if (!sameProcessorAddress)
        {
            Note(VerificationRule.AddressDiffers, 0, "freed by a processor address that is not the buffer's", site,
                record);
        }
    }

    /// <summary>As the other, for functions that name the buffer and not the list.</summary>
    /// <param name="mdl">The buffer.</param>
    /// <param name="offset">The first byte, counted from the MDL's start.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="forProcessor">Whether the processor takes what the device wrote, or the other way.</param>
    /// <param name="site">The driver's call.</param>
    internal void OnSync(Mdl mdl, ulong offset, uint length, bool forProcessor, in CallSite site)
    {
        ScatterGatherLease list = default;
        uint from = 0;
        foreach (Mapping mapping in _adapter.Table.All)
        {
            if (mapping.Phase != MappingPhase.Live || mapping.Verified is not { Number: > 0 } verified) { continue; }
            Transfer mapped = verified.Transfer;
            if (mapped.Mdl != mdl || offset < mapped.Offset || offset - mapped.Offset >= mapped.Length) { continue; }
            (list, from) = (new(mapping, verified.Number), (uint)(offset - mapped.Offset));
            break;
        }
        DmaDirection direction = forProcessor ? DmaDirection.FromDevice : DmaDirection.ToDevice;
        OnSync(list, from, length, direction, null, forProcessor, site);
    }

    /// <summary>Part of a mapped buffer changes hands without being put.</summary>
    /// <param name="list">The list that maps it; the empty one when no list does.</param>
    /// <param name="offset">The first byte, counted from the transfer's first.</param>
    /// <param name="length">Bytes.</param>
    /// <param name="direction">Which way the data goes, as the driver says.</param>
    /// <param name="elements">Elements that the driver's copy of the list has, or null.</param>
    /// <param name="forProcessor">Whether the processor takes it, or the device.</param>
    /// <param name="site">The driver's call.</param>
    internal void OnSync(
        in ScatterGatherLease list, uint offset, uint length, DmaDirection direction, int? elements, bool forProcessor,
        in CallSite site)
    {
        if (list.Mapping?.Verified is not { } verified || verified.Number != list.Number || !list.IsLive)
        {
            Note(VerificationRule.SyncOfUnmapped, 0,
                $"{length} bytes are handed to the {(forProcessor ? "processor" : "device")} and are not mapped", site,
                list.Mapping is { } old && old.Number == list.Number ? RecordOf(old) : null);
            return;
        }
        MappingRecord? record = RecordOf(list.Mapping);
        Transfer mapped = verified.Transfer;
        if (offset + (ulong)length > mapped.Length)
        {
            Note(VerificationRule.SyncOutside, 0,
                $"bytes {offset} to {offset + (ulong)length} are handed over, and {mapped.Length} are mapped", site,
                record);
        }
        if (elements is { } count && count != verified.Elements)
        {
            Note(VerificationRule.SyncCountDiffers, 0,
                $"the list has {verified.Elements} elements, and {count} are handed over", site, record);
        }
        if (direction != mapped.Direction && mapped.Direction != DmaDirection.Bidirectional)
        {
            Note(VerificationRule.SyncDirectionDiffers, 0,
                $"mapped for {mapped.Direction}, handed over for {direction}", site, record);
        }
        else if (forProcessor && mapped.Direction == DmaDirection.ToDevice)
        {
            Note(VerificationRule.SyncForProcessorOfToDevice, 0,
                "the processor takes bytes that the device can only read", site, record);
        }
        else if (!forProcessor && mapped.Direction == DmaDirection.FromDevice)
        {
            Note(VerificationRule.SyncForDeviceOfFromDevice, 0,
                "the device is given bytes that it can only write", site, record);
        }
        else if (verified.Content is not null)
        {
            // The processor may change what it was handed, so the get's bytes prove nothing any more.
            verified.Content = forProcessor ? null : verified.HashContent(_verifier.Platform);
        }
    }
}
