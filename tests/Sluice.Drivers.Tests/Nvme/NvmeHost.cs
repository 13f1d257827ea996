using Sluice.Dma;
using Sluice.Drivers.Nvme;
using Sluice.Machines;
using Sluice.Machines.Nvme;

namespace Sluice.Drivers.Tests.Nvme;

/// <summary>A machine with an NVMe controller and this driver on it.</summary>
internal sealed class NvmeHost : IDisposable
{
    public NvmeHost(
        INvmeMedium medium,
        NvmeOptions? options = null,
        bool stepped = false,
        bool remapped = false,
        NvmeModelOptions? device = null,
        DmaOptions? dma = null,
        int seed = 1)
    {
        Machine = Machine.Create(new()
        {
            MemoryBytes = 64 << 20,
            Deterministic = stepped,
            Seed = seed,
            Iommu = remapped ? MachineIommu.Vtd : MachineIommu.None,
        });
        Device = Machine.Plug(new NvmeModel(medium, device));
        Function = PciBus.Enumerate(Machine).Single(f => f.ClassCode == 0x010802);
        Registers = Function.MapBar(0);
        Dma = DmaSystem.Start(Machine, dma ?? new() { Iommu = remapped ? DmaIommu.Vtd : DmaIommu.None });
        Function.EnableBusMaster();
        Adapter = Dma.CreateAdapter(Function.Address, new(), "nvme");
        Controller = NvmeController.Start(new(Machine, Adapter, Registers, Connect), options);
        Disk = Controller.Namespaces.Single();
    }

    public Machine Machine { get; }

    public NvmeModel Device { get; }

    public PciFunction Function { get; }

    public RegisterWindow Registers { get; }

    public DmaSystem Dma { get; }

    public DmaAdapter Adapter { get; }

    public NvmeController Controller { get; }

    public NvmeNamespace Disk { get; }

    /// <summary>Whether the controller is expected to end dead, with mappings leaked.</summary>
    public bool ExpectsLeaks { get; set; }

    public Mdl Buffer(int length, int offset = 0) => Mdl.Allocate(Machine, (uint)length, offset);

    /// <summary>The unit's invalidation queue stops: whoever waits for it next finds the unit dead.</summary>
    public void StopUnit() => Machine.MapRegisters(MachineMap.RemappingUnit, 0x1000).Write32(0x18, 1u << 31);

    public byte[] Content(Mdl buffer)
    {
        byte[] bytes = new byte[buffer.ByteCount];
        buffer.CopyTo(0, bytes);
        return bytes;
    }

    public void Dispose()
    {
        Controller.Dispose();
        Adapter.Dispose();
        int leaks = Dma.Leaks.Count;
        Dma.Dispose();
        Assert.Empty(Machine.Failures);
        Machine.Dispose();
        Assert.Equal(ExpectsLeaks, leaks > 0);
    }

    private IInterruptLine Connect(int vector, Action handler)
    {
        IInterruptLine line = Machine.ConnectInterrupt($"nvme vector {vector}", handler);
        Function.EnableMsix(vector, line);
        return line;
    }
}

/// <summary>Bytes that tell where on the disk they are.</summary>
internal static class Pattern
{
    public static byte[] Disk(int length, int seed = 1)
    {
        byte[] bytes = new byte[length];
        new Random(seed).NextBytes(bytes);
        return bytes;
    }
}

/// <summary>A medium over memory that can be told to misbehave.</summary>
internal sealed class FlakyMedium(byte[] content) : INvmeMedium
{
    private readonly MemoryMedium _memory = new(content);
    private readonly ManualResetEventSlim _gate = new(true);
    private readonly ManualResetEventSlim _errors = new(true);

    /// <summary>From this byte on nothing can be read, as in a file that was cut.</summary>
    public long ReadableLength { get; set; } = long.MaxValue;

    /// <summary>From this byte on nothing can be written, as on a full disk.</summary>
    public long WritableLength { get; set; } = long.MaxValue;

    /// <summary>Reads that start before this byte fail.</summary>
    public long UnreadableLength { get; set; }

    /// <summary>Reads from this byte on wait while the medium is closed.</summary>
    public long GatedFrom { get; set; }

    public int Flushes { get; private set; }

    public long Length => content.Length;

    public bool IsReadOnly => false;

    /// <summary>Closed: reads wait, at most ten seconds.</summary>
    public void Close() => _gate.Reset();

    public void Open() => _gate.Set();

    /// <summary>Reads that fail wait before they do, at most ten seconds.</summary>
    public void HoldErrors() => _errors.Reset();

    public void ReleaseErrors() => _errors.Set();

    public MediumStatus Read(long offset, Span<byte> destination)
    {
        if (offset >= GatedFrom) { _gate.Wait(TimeSpan.FromSeconds(10)); }
        bool isUnreadable = offset < UnreadableLength || offset + destination.Length > ReadableLength;
        if (isUnreadable) { _errors.Wait(TimeSpan.FromSeconds(10)); }
        return isUnreadable ? MediumStatus.ReadError : _memory.Read(offset, destination);
    }

    public MediumStatus Write(long offset, ReadOnlySpan<byte> source) =>
        offset + source.Length > WritableLength ? MediumStatus.WriteFault : _memory.Write(offset, source);

    public bool CanDeallocate => true;

    public MediumStatus Deallocate(long offset, long length) => _memory.Deallocate(offset, length);

    public MediumStatus Flush()
    {
        Flushes++;
        return MediumStatus.Done;
    }

    public void Dispose()
    {
        _gate.Dispose();
        _errors.Dispose();
    }
}
