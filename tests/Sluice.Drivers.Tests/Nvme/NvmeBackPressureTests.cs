using Sluice.Dma;
using Sluice.Drivers.Nvme;
using Sluice.Machines.Nvme;

namespace Sluice.Drivers.Tests.Nvme;

/// <summary>Commands that wait for DMA resources that somebody else holds.</summary>
public sealed class NvmeBackPressureTests
{
    private const int DiskBytes = 1 << 20;
    private const long Millisecond = 1_000_000;
    private const int Registers = 16;

    // A watchdog that turns every five seconds: whoever waits for it is too late.
    private static readonly NvmeOptions s_patient = new() { CommandTimeout = 40_000 * Millisecond };

    // Seen failing: refused commands in a stack, tried again by the driver's own completions and its watchdog alone.
    [Fact]
    public async Task WhoeverFreesWakesThemFirstInFirstOut()
    {
        OrderedMedium medium = new(Pattern.Disk(DiskBytes));
        using NvmeHost host = new(medium, s_patient, dma: Scarce);
        medium.Order.Clear();
        using Mdl hog = host.Buffer(Registers << 12);
        Assert.True(host.Adapter.TryGetScatterGatherList(
            hog, 0, Registers << 12, DmaDirection.ToDevice, out ScatterGatherLease held));
        Mdl[] buffers = [.. Enumerable.Range(0, 24).Select(_ => host.Buffer(8192))];
        Task[] reads = [.. buffers.Select((b, i) => host.Disk.ReadAsync((ulong)i * 16, b, 0, 8192).AsTask())];
        await Task.Delay(20);
        Assert.Equal(0, host.Controller.InFlight);
        host.Adapter.PutScatterGatherList(held);
        await Task.WhenAll(reads).WaitAsync(TimeSpan.FromSeconds(4));
        Assert.Equal(Enumerable.Range(0, 24).Select(i => (long)i * 8192), medium.Order);
        Array.ForEach(buffers, b => b.Dispose());
    }

    // Seen failing: a command's age counted from its first try, so that the controller, which had never seen it, was
    // reset; and nothing ended a wait.
    [Fact]
    public void WaitingForResourcesTimesOutAloneAndIsNoFaultOfTheController()
    {
        NvmeOptions options = new() { CommandTimeout = 40 * Millisecond, QueueDepth = 8 };
        using NvmeHost host = new(new MemoryMedium(Pattern.Disk(DiskBytes)), options, stepped: true, dma: Scarce);
        using Mdl hog = host.Buffer(Registers << 12);
        using Mdl buffer = host.Buffer(8192);
        Assert.True(host.Adapter.TryGetScatterGatherList(
            hog, 0, Registers << 12, DmaDirection.ToDevice, out ScatterGatherLease held));
        long start = host.Machine.Clock.Nanoseconds;
        // More than there are slots: those behind get theirs when the first give up.
        ValueTask[] reads = [.. Enumerable.Range(0, 12).Select(i => host.Disk.ReadAsync((ulong)i, buffer, 0, 8192))];
        foreach (ValueTask read in reads)
        {
            NvmeException late = Assert.Throws<NvmeException>(() => host.Controller.Wait(read));
            Assert.Equal(NvmeFailure.TimedOut, late.Failure);
            Assert.Contains("DMA resources", late.Message, StringComparison.Ordinal);
        }
        Assert.InRange(host.Machine.Clock.Nanoseconds - start, 2 * options.CommandTimeout, 4 * options.CommandTimeout);
        Assert.Equal((0, 0), (host.Controller.Aborts, host.Controller.Resets));
        // Its time with the device begins at the doorbell.
        host.Device.Misbehave = c => c.Queue == 1 ? NvmeMisbehaviour.Hold : NvmeMisbehaviour.None;
        ValueTask hung = host.Disk.ReadAsync(0, buffer, 0, 8192);
        Run(host, 3 * options.CommandTimeout / 4);
        host.Adapter.PutScatterGatherList(held);
        long rung = host.Machine.Clock.Nanoseconds;
        Assert.Equal(1, host.Controller.InFlight);
        NvmeException aborted = Assert.Throws<NvmeException>(() => host.Controller.Wait(hung));
        Assert.Contains("aborted", aborted.Message, StringComparison.Ordinal);
        Assert.InRange(
            host.Machine.Clock.Nanoseconds - rung, options.CommandTimeout * 7 / 8, 2 * options.CommandTimeout);
        Assert.Equal((1, 0), (host.Controller.Aborts, host.Controller.Resets));
        host.Device.Misbehave = null;
        host.Disk.Read(0, buffer, 0, 8192);
    }

    // A reset, and the end, while commands wait: each is answered once, and what comes too late is given back.
    // Seen failing: lists that came while the controller was stopped kept; and waits not ended with the controller.
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void AControllerThatIsResetOrShutDownMeanwhileAnswersThemAll(bool shutDown)
    {
        byte[] content = Pattern.Disk(DiskBytes);
        NvmeOptions options = new() { CommandTimeout = 400 * Millisecond, QueueDepth = 4 };
        using NvmeHost host = new(new MemoryMedium(content), options, stepped: true, dma: Scarce);
        using Mdl hog = host.Buffer(Registers << 12);
        Mdl[] buffers = [.. Enumerable.Range(0, 7).Select(_ => host.Buffer(8192))];
        Assert.True(host.Adapter.TryGetScatterGatherList(
            hog, 0, Registers << 12, DmaDirection.ToDevice, out ScatterGatherLease held));
        ValueTask[] reads = [.. buffers.Select((b, i) => host.Disk.ReadAsync((ulong)i * 16, b, 0, 8192))];
        if (shutDown)
        {
            host.Controller.Dispose();
            foreach (ValueTask read in reads)
            {
                NvmeException dead = Assert.Throws<NvmeException>(() => host.Controller.Wait(read));
                Assert.Equal(NvmeFailure.ControllerDead, dead.Failure);
            }
            host.Adapter.PutScatterGatherList(held);
        }
        else
        {
            ValueTask flush = host.Disk.FlushAsync(); // there is no slot for it before the reads are through
            host.Registers.Write32(0x14, 0);          // somebody stops the controller: CSTS.RDY falls, no more
            host.Adapter.PutScatterGatherList(held);
            foreach ((ValueTask read, int i) in reads.Select((read, i) => (read, i)))
            {
                try
                {
                    host.Controller.Wait(read);
                    Assert.True(host.Content(buffers[i]).AsSpan().SequenceEqual(content.AsSpan(i * 8192, 8192)));
                }
                catch (NvmeException e) when (e.Failure is NvmeFailure.ControllerReset or NvmeFailure.TimedOut)
                {
                    // in flight at the reset
                }
            }
            host.Controller.Wait(flush); // the controller never had it: it outlives the reset
            Assert.Equal(1, host.Controller.Resets);
        }
        Assert.All(buffers, b => Assert.Equal(0, b.MappedTransfers));
        Assert.Equal(0, host.Adapter.Statistics.Outstanding);
        Array.ForEach(buffers, b => b.Dispose());
    }

    private static DmaOptions Scarce => new() { Iommu = DmaIommu.None, MapRegistersPerAdapter = Registers };

    private static void Run(NvmeHost host, long nanoseconds)
    {
        for (long end = host.Machine.Clock.Nanoseconds + nanoseconds; host.Machine.Clock.Nanoseconds < end;)
        {
            host.Machine.Clock.Relax();
        }
    }

    private sealed class OrderedMedium(byte[] content) : INvmeMedium
    {
        private readonly MemoryMedium _memory = new(content);

        public List<long> Order { get; } = [];

        public long Length => content.Length;

        public bool IsReadOnly => false;

        public MediumStatus Read(long offset, Span<byte> destination)
        {
            Order.Add(offset);
            return _memory.Read(offset, destination);
        }

        public MediumStatus Write(long offset, ReadOnlySpan<byte> source) => _memory.Write(offset, source);

        public MediumStatus Flush() => MediumStatus.Done;

        public void Dispose()
        {
        }
    }
}
