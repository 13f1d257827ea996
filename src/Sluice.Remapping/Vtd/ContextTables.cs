using Sluice.Formats.Vtd;

namespace Sluice.Remapping.Vtd;

/// <summary>
/// The root table and context tables of one unit: who may do DMA at all. Empty means that nobody may. One writer at a
/// time.
/// </summary>
/// <remarks>
/// An entry is two words and the unit may read between any two stores. Either it is filled in while its low word says
/// "absent" and the unit has confirmed that it holds no older copy, or it is replaced by one store of both words: a
/// mixture of old and new is never visible.
/// </remarks>
internal sealed class ContextTables(IPhysicalMemory memory, IFrameAllocator frames, PhysicalAddress root)
{
    private const ulong FaultDisableBit = 2;
    private readonly PhysicalAddress[] _buses = new PhysicalAddress[RootEntry.Count];

    /// <summary>
    /// Makes sure that the bus of <paramref name="device"/> has a context table. An empty one changes nothing for
    /// devices.
    /// </summary>
    /// <returns>False when no frame was left.</returns>
    public bool TryPrepare(RequesterId device)
    {
        if (_buses[device.Bus] != default) { return true; }
        if (!frames.TryAllocate(FrameKind.UnitTable, 12, out PhysicalAddress table)) { return false; }
        RootEntry entry = RootEntry.For(table);
        PhysicalAddress address = RootEntry.AddressOf(root, device.Bus);
        memory.TryWrite64(address + 8, entry.High);
        memory.TryWrite64(address, entry.Low);
        _buses[device.Bus] = table;
        return true;
    }

    /// <summary>The entry of a device; absent where its bus has no table.</summary>
    public ContextEntry Read(RequesterId device)
    {
        if (_buses[device.Bus] == default) { return default; }
        PhysicalAddress address = ContextEntry.AddressOf(_buses[device.Bus], device);
        memory.TryRead64(address, out ulong low);
        memory.TryRead64(address + 8, out ulong high);
        return new(low, high);
    }

    /// <summary>Takes the entry away: one store. The unit may still hold a copy until it is told.</summary>
    public void Clear(RequesterId device, bool silenced)
    {
        memory.TryWrite64(ContextEntry.AddressOf(_buses[device.Bus], device), silenced ? FaultDisableBit : 0);
    }

    /// <summary>
    /// Fills in an entry that is absent, and of which the unit holds no copy: the word with the present bit last.
    /// </summary>
    public void Publish(RequesterId device, ContextEntry entry, bool silenced)
    {
        PhysicalAddress address = ContextEntry.AddressOf(_buses[device.Bus], device);
        memory.TryWrite64(address + 8, entry.High);
        memory.TryWrite64(address, LowOf(entry, silenced));
    }

    /// <summary>
    /// Replaces a present entry by another in one store. The unit may still hold a copy of the old one until it is
    /// told.
    /// </summary>
    /// <returns>False, and nothing changed, where nothing can store 16 bytes at once.</returns>
    public bool TryReplace(RequesterId device, ContextEntry entry, bool silenced) => memory.TryWrite128(
        ContextEntry.AddressOf(_buses[device.Bus], device), LowOf(entry, silenced), entry.High);

    /// <summary>
    /// Switches the reporting of a device's faults off or on: one store, and nothing else of the entry changes. Units
    /// look at the bit in absent entries too (QEMU does); one that did not would leave a stranger loud, and the bounded
    /// handler would have to do.
    /// </summary>
    public void Silence(RequesterId device, bool silenced)
    {
        ulong low = Read(device).Low;
        low = silenced ? low | FaultDisableBit : low & ~FaultDisableBit;
        memory.TryWrite64(ContextEntry.AddressOf(_buses[device.Bus], device), low);
    }

    /// <summary>Nobody may do DMA any more, as soon as the unit looks: every bus loses its table.</summary>
    public void BlockAll()
    {
        for (int bus = 0; bus < RootEntry.Count; bus++)
        {
            memory.TryWrite64(RootEntry.AddressOf(root, (byte)bus), 0);
        }
    }

    private static ulong LowOf(ContextEntry entry, bool silenced) =>
        silenced ? entry.Low | FaultDisableBit : entry.Low;
}
