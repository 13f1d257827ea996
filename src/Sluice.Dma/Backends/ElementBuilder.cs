namespace Sluice.Dma;

/// <summary>
/// Writes a scatter/gather list: joins pieces that touch, then cuts runs where the device's longest segment or its
/// boundary demands it. As few elements as those rules allow.
/// </summary>
internal ref struct ElementBuilder
{
    private readonly Mapping _mapping;
    private readonly DeviceDescription _device;
    private readonly ElementPool _pool;
    private LogicalAddress _run;
    private ulong _length;

    internal ElementBuilder(Mapping mapping, DeviceDescription device, ElementPool pool)
    {
        (_mapping, _device, _pool) = (mapping, device, pool);
        mapping.Count = 0;
    }

    /// <summary>
    /// The most elements that a transfer can need: one for each page, and one more wherever the device's longest
    /// segment ends or its boundary is met.
    /// </summary>
    internal static long MostElements(DeviceDescription device, int pages, uint length)
    {
        long most = pages + length / device.MaximumSegment;
        if (device.BoundaryLog2 < 32) { most += pages + (length >> device.BoundaryLog2); }
        else if (device.BoundaryLog2 < 64) { most += pages; }
        return Math.Min(most, length);
    }

    /// <summary>The next piece of the transfer.</summary>
    internal void Add(LogicalAddress first, ulong length)
    {
        if (_length != 0 && first == _run + _length)
        {
            _length += length;
            return;
        }
        Cut();
        (_run, _length) = (first, length);
    }

    /// <summary>No more pieces: the list is whole.</summary>
    internal void Finish() => Cut();

    private void Cut()
    {
        while (_length > 0)
        {
            ulong take = Math.Min(_length, _device.MaximumSegment);
            if (_device.BoundaryLog2 < 64)
            {
                take = Math.Min(take, (1UL << _device.BoundaryLog2) - _run.OffsetIn(_device.BoundaryLog2));
            }
            Append(new(_run, (uint)take));
            (_run, _length) = (_run + take, _length - take);
        }
    }

    private readonly void Append(ScatterGatherElement element)
    {
        Mapping mapping = _mapping;
        int count = mapping.Count++;
        if (count == 0)
        {
            mapping.Only = element;
            return;
        }
        // A list without joins has an element for each page at least, so that is a good first guess.
        if (mapping.Many is null)
        {
            mapping.Many = mapping.Transfer.Elements ?? _pool.Rent(mapping.Backend.MapRegisters);
            mapping.Many[0] = mapping.Only;
        }
        if (count == mapping.Many.Length)
        {
            ScatterGatherElement[] longer = _pool.Rent(count + 1);
            mapping.Many.CopyTo(longer, 0);
            if (mapping.Many != mapping.Transfer.Elements) { _pool.Return(mapping.Many); }
            mapping.Many = longer;
        }
        mapping.Many[count] = element;
    }
}
