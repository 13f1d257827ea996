using static Sluice.Dma.VerificationRule;

namespace Sluice.Dma.Wdm;

// What only this layer knows of the rules: levels, addresses, and what a driver says again. Each method is a null check
// while verification is off. It tells, and throws if asked; what the function answers otherwise stays as it is.
public sealed partial class WdmAdapter
{
    private CallSite SiteOf(DdiFunction function) => new(function.ToString(), Driver);

    // Every function begins here.
    private void Enter(DdiFunction function)
    {
        if (Adapter.Verifier is { } verifier)
        {
            WdmVerification.CheckLevel(verifier.System, function, Device);
            // A list without elements comes with the release, and may be put after it.
            if (Adapter.IsReleased && function != DdiFunction.PutScatterGatherList)
            {
                Tell(function, AdapterReleased, 0, $"{function} is called and the adapter was put");
            }
        }
        IrqlScheduler.Check(function, Driver);
    }

    private void Tell(DdiFunction function, VerificationRule rule, int subCode, string line)
    {
        if (Adapter.Verifier is not { } verifier) { return; }
        verifier.Note(rule, subCode, line, SiteOf(function));
        DmaVerifier.Conclude();
    }

    // Ends a call whose work is done although it broke a rule.
    private void Conclude()
    {
        if (Adapter.Verifier is not null) { DmaVerifier.Conclude(); }
    }

    private void ThrowForeign(DdiFunction function, string what, DmaAdapter owner)
    {
        TellForeign(function, what, owner);
        throw new InvalidOperationException($"{Driver} uses {what} of {owner.Driver} {owner.Device}");
    }

    private void TellForeign(DdiFunction function, string what, DmaAdapter owner) =>
        Tell(function, NotOfThisAdapter, 0,
            $"{what} of {owner.Driver} {owner.Device}: used by {Driver} {Adapter.Device}");

    // The start of a buffer, and its length: 1F, 21, 24, 15.
    private void Verify(DdiFunction function, Mdl mdl, VirtualAddress currentVa, uint length, bool chained = true)
    {
        if (Adapter.Verifier is null || mdl is null) { return; }
        ulong distance = currentVa - VirtualAddress.Of(mdl);
        if (distance >= mdl.ByteCount)
        {
            bool before = currentVa.Value < VirtualAddress.Of(mdl).Value;
            Tell(function, InvalidBuffer, before ? 1 : 2,
                $"{currentVa} is {(before ? "before" : "behind")} an MDL of {mdl.ByteCount} bytes at "
                + $"{VirtualAddress.Of(mdl)}");
            return;
        }
        if (chained) { Verify(function, mdl, distance, length); }
        else if (length == 0) { Tell(function, ZeroLength, 0, "no bytes are mapped"); }
        else if (LastPage(mdl, distance + length) > LastPage(mdl, mdl.ByteCount))
        {
            Tell(function, InvalidBuffer, 3,
                $"{length} bytes from byte {distance} go on in pages that this MDL of {mdl.ByteCount} bytes has not");
        }
    }

    private void Verify(DdiFunction function, Mdl mdl, ulong offset, uint length, bool whole = true)
    {
        if (Adapter.Verifier is not { } verifier || mdl is null) { return; }
        (string member, string file) = (function.ToString(), Driver);
        verifier.CheckRange(mdl, (uint)Math.Min(offset, uint.MaxValue), length, member, file);
        if (whole && Locate(mdl, offset, length, out int registers) == NtStatus.InsufficientResources)
        {
            Tell(function, TooManyMapRegisters, 0,
                $"{length} bytes take {registers} map registers, and {NumberOfMapRegisters} were granted");
        }
    }

    private void VerifyRegisters(DdiFunction function, WdmDeviceObject device, int registers)
    {
        if (Adapter.Verifier is null) { return; }
        if (registers > NumberOfMapRegisters)
        {
            Tell(function, TooManyMapRegisters, 0,
                $"{registers} map registers are asked for, and {NumberOfMapRegisters} were granted");
        }
        if (_controlThread == Environment.CurrentManagedThreadId)
        {
            Tell(function, SecondChannel, 0, "a channel is asked for inside an AdapterControl, which has one");
        }
        if (device.QueuedChannel is not null)
        {
            Tell(function, SecondChannel, 0, "a channel is asked for, and the device object waits for one already");
        }
    }

    private void VerifyMapped(
        DdiFunction function, MapRegisterBase registers, Mdl mdl, uint offset, uint length, DmaDirection direction)
    {
        if (registers.Verified is not { } verified) { return; }
        bool remembered = verified.OnMap(mdl, offset, length, direction, SiteOf(function));
        if (DmaVerifier.MustConclude && remembered) { verified.Undo(mdl, offset); }
        DmaVerifier.Conclude();
    }

    // A map that found no register left.
    private void VerifyLoaded(MapRegisterBase registers)
    {
        if (Adapter.Verifier is null || registers.Channel is not { FreeRegisters: 0 }) { return; }
        Tell(DdiFunction.MapTransfer, MapRegisterFile, 2,
            $"more is mapped, and all {registers.NumberOfMapRegisters} map registers are loaded");
    }

    // What came before the AdapterControl returned must be what it then asked for.
    private void VerifyEarly(DdiFunction function, IoAllocationAction action)
    {
        bool registers = function == DdiFunction.FreeMapRegisters;
        if (action == IoAllocationAction.DeallocateObject)
        {
            Tell(function, registers ? MapRegistersFreedTwice : ChannelFreedTwice, 0,
                $"{function} was called, and then the AdapterControl answered {action}");
        }
        else if (registers != (action == IoAllocationAction.DeallocateObjectKeepRegisters))
        {
            Tell(function, WrongFunction, 0, $"{function} was called, and then the AdapterControl answered {action}");
        }
    }

    private void VerifyFlush(
        DdiFunction function, MapRegisterBase registers, Mdl mdl, ulong offset, uint length, bool writeToDevice)
    {
        if (registers.Verified is not { } verified) { return; }
        bool runs = IsSubordinate && !Description.AutoInitialize && registers.Transfer is not { IsPoisoned: true }
            && registers.IsMapped && Controller.ReadCounter(Line) > 0;
        // That it still runs is thrown when the flush is done; what does not match flushes nothing, so it is thrown
        // here.
        if (runs)
        {
            Adapter.Verifier!.Note(
                FlushOfRunningChannel, 0, $"{Controller.ReadCounter(Line)} bytes are to be moved", SiteOf(function));
        }
        if (!verified.OnFlush(mdl, offset, length, Direction(writeToDevice), SiteOf(function)))
        {
            DmaVerifier.Conclude();
        }
    }

    // Version 3: what was mapped must be flushed before anything else is mapped, or the registers go.
    private void VerifyFlushed(DdiFunction function, MapRegisterBase registers)
    {
        if (registers.Verified is not { } verified) { return; }
        if (function == DdiFunction.FreeMapRegisters) { verified.OnFree(SiteOf(function)); }
        else { verified.OnEnd(SiteOf(function)); }
        DmaVerifier.Conclude();
    }

    private void VerifyFree(MapRegisterBase registers, int count, bool ofChannel)
    {
        const DdiFunction Function = DdiFunction.FreeMapRegisters;
        if (Adapter.Verifier is null) { return; }
        if (registers.IsFreed) { Tell(Function, MapRegistersFreedTwice, 0, $"{count} map registers are freed again"); }
        else if (ofChannel)
        {
            Tell(Function, WrongFunction, 0, "the map registers of a channel that is kept are freed: free the channel");
        }
        else if (count != registers.NumberOfMapRegisters)
        {
            Tell(Function, LengthDiffers, 0, $"{count} of {registers.NumberOfMapRegisters} map registers are freed");
        }
    }

    private void VerifyFree(CommonBuffer buffer, LogicalAddress address, ulong length)
    {
        if (Adapter.Verifier is not { } verifier) { return; }
        verifier.OnFree(buffer, address, length, sameProcessorAddress: true, SiteOf(DdiFunction.FreeCommonBuffer));
        DmaVerifier.Conclude();
    }

    private void VerifyPut(ScatterGatherList list, bool writeToDevice)
    {
        const DdiFunction Function = DdiFunction.PutScatterGatherList;
        if (Adapter.Verifier is not { } verifier) { return; }
        if (list.Adapter != this)
        {
            TellForeign(Function, "a scatter/gather list", list.Adapter.Adapter);
            return;
        }
        if (list.Lease == default) { return; }
        if (list.Lease.Mapping?.Backend.Channel is not null && list.Lease.IsLive)
        {
            Tell(Function, WrongFunction, 0, "a list that MapTransferEx filled is put: flush it");
        }
        verifier.OnPut(list.Lease, Direction(writeToDevice), null, null, SiteOf(Function));
        DmaVerifier.Conclude();
    }

    private void VerifySync(Mdl mdl, ulong offset, uint length, bool readOperation)
    {
        if (Adapter.Verifier is not { } verifier || mdl is null) { return; }
        verifier.OnSync(mdl, offset, length, readOperation, SiteOf(DdiFunction.FlushDmaBuffer));
        DmaVerifier.Conclude();
    }

    // Counted from the first page's first byte, for the last of so many bytes.
    private static ulong LastPage(Mdl mdl, ulong bytes) => ((ulong)mdl.ByteOffset + bytes - 1) >> 12;
}

/// <summary>Rules that are broken where there is no adapter yet, or none any more.</summary>
internal static class WdmVerification
{
    internal static void CheckLevel(DmaVerifier? verifier, DdiFunction function, WdmDeviceObject device)
    {
        IrqlRule rule = DdiTable.RuleOf(function);
        Irql level = IrqlScheduler.Level;
        if (verifier is null || rule.Allows(level)) { return; }
        bool exact = rule is IrqlRule.Passive or IrqlRule.Dispatch;
        Tell(verifier, function, device, exact ? WrongLevel : LevelTooHigh,
            $"{function} is called at {level} level and is for {rule} level");
    }

    internal static void Tell(
        DmaVerifier verifier, DdiFunction function, WdmDeviceObject device, VerificationRule rule, string line)
    {
        verifier.Note(new()
        {
            Rule = rule,
            Line = line,
            Device = device.PhysicalDevice,
            Driver = device.Driver,
            Site = new(function.ToString(), device.Driver),
        });
        DmaVerifier.Conclude();
    }
}
