using System.Runtime.InteropServices;
using Sluice.Remapping;

namespace Sluice.Dma.Wdm.Tests;

/// <summary>The back-ends every contract test runs on. Adding one is adding a line.</summary>
public static class Backend
{
    internal static readonly string[] Names = ["identity", "bounce", "remapping", "deferred"];

    public static TheoryData<string> All => [.. Names];

    /// <summary>As <see cref="All"/>, and a device that never sees the rest of a page.</summary>
    public static TheoryData<string> AllAndUntrusted => [.. Names, "untrusted"];

    internal static bool IsRemapped(string name) => name is "remapping" or "deferred";

    internal static DmaSystem Start(TestPlatform platform, string name, DmaOptions? options = null) => name switch
    {
        "remapping" => platform.Start(InvalidationPolicy.Strict, options),
        "bounce" => platform.Start(null, (options ?? new()) with
        {
            Bounce = options?.Bounce ?? new() { Always = true, Pages = 128, MaximumPages = 128, Areas = 1 },
        }),
        "deferred" => platform.Start(InvalidationPolicy.Deferred, options),
        "untrusted" => platform.Start(InvalidationPolicy.Strict, (options ?? new()) with
        {
            Trusts = static _ => false,
            Bounce = new() { Pages = 128, MaximumPages = 128, Areas = 1 },
        }),
        _ => platform.Start(null, options),
    };
}

/// <summary>A machine, a device and its driver's side of the DDI.</summary>
internal sealed class Lab : IDisposable
{
    internal static readonly PciAddress Slot = PciAddress.From(0, 4, 0);
    private readonly List<Mdl> _buffers = [];
    private readonly List<Action> _later = [];

    internal Lab(string backend, int registers = int.MaxValue, uint bytesPerBank = 2 << 20, int seed = 1,
        Func<TestPlatform, ISystemDmaController>? makeController = null, DmaOptions? options = null)
    {
        Name = backend;
        Platform = new(seed, bytesPerBank);
        System = Backend.Start(Platform, backend, (options ?? new()) with { MapRegistersPerAdapter = registers });
        Dma = new(System, makeController?.Invoke(Platform));
    }

    internal string Name { get; }

    internal TestPlatform Platform { get; }

    internal DmaSystem System { get; }

    internal WdmDma Dma { get; }

    internal WdmDeviceObject Device { get; } = new(Slot, "test");

    internal bool IsRemapped => Backend.IsRemapped(Name);

    internal static WdmDeviceDescription Master(uint maximumLength, bool scatterGather = true, int width = 64) => new()
    {
        Version = 3,
        Master = true,
        ScatterGather = scatterGather,
        DmaAddressWidth = width,
        MaximumLength = maximumLength,
    };

    internal WdmAdapter Get(uint maximumLength, bool scatterGather = true, int width = 64) =>
        Get(Master(maximumLength, scatterGather, width));

    internal WdmAdapter Get(WdmDeviceDescription description)
    {
        WdmAdapter? adapter = Dma.IoGetDmaAdapter(Device, description, out int registers);
        Assert.NotNull(adapter);
        Assert.Equal(registers, adapter.NumberOfMapRegisters);
        return adapter;
    }

    /// <summary>A buffer of random bytes in scattered frames.</summary>
    internal Mdl Buffer(uint length, int offset = 0, int seed = 7)
    {
        Mdl mdl = Mdl.Allocate(Platform, length, offset);
        _buffers.Add(mdl);
        mdl.CopyFrom(0, Random(length, seed));
        return mdl;
    }

    /// <summary>A chain of buffers: pairs of length and offset.</summary>
    internal Mdl Chain(params (uint Length, int Offset)[] parts)
    {
        Mdl[] all = [.. parts.Select((p, i) => Buffer(p.Length, p.Offset, i + 1))];
        for (int i = 1; i < all.Length; i++) { all[i - 1].Next = all[i]; }
        return all[0];
    }

    internal static byte[] Random(uint length, int seed)
    {
        byte[] bytes = new byte[length];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }

    internal static byte[] Bytes(Mdl mdl, uint offset, uint length)
    {
        byte[] bytes = new byte[length];
        mdl.CopyTo(offset, bytes);
        return bytes;
    }

    /// <summary>What is in memory now, whoever owns it.</summary>
    internal byte[] Raw(Mdl mdl)
    {
        using Mdl window = Mdl.Borrow(Platform, mdl.Pages, mdl.ByteCount, mdl.ByteOffset);
        return Bytes(window, 0, mdl.ByteCount);
    }

    /// <summary>The device reads all of a list.</summary>
    internal byte[] DeviceReads(ScatterGatherList list)
    {
        List<byte> all = [];
        for (int i = 0; i < list.NumberOfElements; i++)
        {
            byte[] bytes = new byte[list[i].Length];
            Assert.True(Platform.DmaRead(Slot, list[i].Address, bytes));
            all.AddRange(bytes);
        }
        return [.. all];
    }

    /// <summary>The device writes all of a list.</summary>
    internal void DeviceWrites(ScatterGatherList list, byte[] bytes)
    {
        int done = 0;
        for (int i = 0; i < list.NumberOfElements; i++)
        {
            Assert.True(Platform.DmaWrite(Slot, list[i].Address, bytes[done..(done + (int)list[i].Length)]));
            done += (int)list[i].Length;
        }
        Assert.Equal(bytes.Length, done);
    }

    /// <summary>What is undone at the end if the test's subject did not.</summary>
    internal void Later(Action action) => _later.Add(action);

    internal void RunLater()
    {
        foreach (Action action in _later)
        {
            try { action(); }
            catch (InvalidOperationException) { }
        }
        _later.Clear();
    }

    internal void AtDispatch(Action action)
    {
        using (IrqlScheduler.RaiseTo(Irql.Dispatch)) { action(); }
    }

    internal T AtDispatch<T>(Func<T> function)
    {
        using (IrqlScheduler.RaiseTo(Irql.Dispatch)) { return function(); }
    }

    /// <summary>Gets a list that must come at once.</summary>
    internal ScatterGatherList List(WdmAdapter adapter, Mdl mdl, uint offset, uint length, bool writeToDevice)
    {
        ScatterGatherList? got = null;
        NtStatus status = AtDispatch(() => adapter.GetScatterGatherList(
            Device, mdl, VirtualAddress.Of(mdl) + offset, length, (_, _, list, _) => got = list, null, writeToDevice));
        Assert.Equal(NtStatus.Success, status);
        Assert.NotNull(got);
        return got;
    }

    internal void Put(WdmAdapter adapter, ScatterGatherList list, bool writeToDevice) =>
        AtDispatch(() => adapter.PutScatterGatherList(list, writeToDevice));

    /// <summary>
    /// Ends the machine. A test that ended normally left nothing behind; one that fails leaves what it leaves, and
    /// what it failed with is what is told.
    /// </summary>
    public void Dispose()
    {
        if (Marshal.GetExceptionPointers() != 0)
        {
            Record.Exception(End);
            return;
        }
        Assert.Equal(Irql.Passive, IrqlScheduler.Level);
        End();
    }

    private void End()
    {
        System.Dispose();
        DmaLeak[] left = [.. System.Leaks.Where(static leak => !leak.IsReleased)];
        Assert.Empty(left);
        _buffers.ForEach(static m => m.Dispose());
        Assert.Equal(0, Platform.TestFrames.Count(FrameKind.Buffer));
        Platform.Dispose();
    }
}
