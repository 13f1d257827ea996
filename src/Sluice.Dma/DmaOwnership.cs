using System.Runtime.CompilerServices;

namespace Sluice.Dma;

/// <summary>
/// Which system has the DMA of a machine: one at a time. Finds the mapped transfer that bytes of a buffer belong to,
/// for a processor that is about to touch them. Looks through the records of every adapter of the machine: microseconds,
/// and only for buffers with something mapped.
/// </summary>
internal static class DmaOwnership
{
    private static readonly ConditionalWeakTable<IPlatform, Owner> All = [];

    /// <summary>Takes a machine's DMA.</summary>
    /// <exception cref="InvalidOperationException">Another system has it.</exception>
    internal static void Claim(DmaSystem system)
    {
        ref DmaSystem? owner = ref All.GetOrCreateValue(system.Platform).System;
        if (Interlocked.CompareExchange(ref owner, system, null) is not null)
        {
            throw new InvalidOperationException(
                "another DmaSystem has the DMA of this machine: dispose it before a second one is started");
        }
    }

    /// <summary>Gives it up.</summary>
    internal static void Leave(DmaSystem system)
    {
        if (All.TryGetValue(system.Platform, out Owner? owner))
        {
            Interlocked.CompareExchange(ref owner.System, null, system);
        }
    }

    /// <exception cref="InvalidOperationException">They are the device's: reading while it may write, writing while it
    /// may do either.</exception>
    internal static void Check(IPlatform platform, Mdl part, uint offset, uint length, bool writes)
    {
        if (length == 0 || !All.TryGetValue(platform, out Owner? owner)) { return; }
        if (Volatile.Read(ref owner.System) is not { } system) { return; }
        foreach (DmaAdapter adapter in system.Adapters)
        {
            foreach (Mapping mapping in adapter.Table.All)
            {
                if (!mapping.TryReadTransfer(out long number, out Transfer transfer)) { continue; }
                if (!writes && transfer.Direction == DmaDirection.ToDevice) { continue; }
                if (!Overlaps(transfer, part, offset, length)) { continue; }
                // Put meanwhile? Then it is the processor's again.
                if (mapping.TryCapture(out MappingRecord record) && record.Number == number
                    && record.State != MappingState.Unmapped)
                {
                    InvalidOperationException refusal = Refuse(record, offset, length, writes);
                    adapter.Verifier?.OnTouched(record, refusal.Message);
                    throw refusal;
                }
            }
        }
    }

    private static bool Overlaps(in Transfer transfer, Mdl part, uint offset, uint length)
    {
        MdlCursor cursor = new(transfer.Mdl!, transfer.Offset, transfer.Length);
        while (cursor.NextPiece(out Mdl mapped, out uint at, out uint here))
        {
            if (mapped == part && at - (ulong)offset < length) { return true; }
            if (mapped == part && offset - (ulong)at < here) { return true; }
        }
        return false;
    }

    private static InvalidOperationException Refuse(in MappingRecord record, uint offset, uint length, bool writes) =>
        new($"bytes {offset} to {(ulong)offset + length - 1} are not the processor's to {(writes ? "write" : "read")}: "
            + $"mapping #{record.Number} ({record.Direction}) of {record.Owner} {record.Device}, got by "
            + $"{record.MapSite}, covers some of them. Put its list first");

    private sealed class Owner
    {
        internal DmaSystem? System;
    }
}
