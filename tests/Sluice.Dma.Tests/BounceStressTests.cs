using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using Sluice.Machines;

namespace Sluice.Dma.Tests;

/// <summary>Tests that say how long something may wait: not while others keep the thread pool from them.</summary>
[CollectionDefinition("alone", DisableParallelization = true)]
public sealed class Alone;

/// <summary>
/// Eight drivers, each with a request under way on each of eight devices, and a pool that has pages for a tenth of
/// them. Three seconds; <c>SLUICE_STRESS_SECONDS=60</c> for longer.
/// </summary>
[Collection("alone")]
public sealed class BounceStressTests(ITestOutputHelper output)
{
    private const int Drivers = 8;
    private const int Devices = 8;
    private const int PoolPages = 48;
    private const uint LongestTransfer = 64 << 10;
    private static readonly TimeSpan LongestWaitAllowed = TimeSpan.FromSeconds(5);

    private static double Seconds =>
        double.TryParse(Environment.GetEnvironmentVariable("SLUICE_STRESS_SECONDS"), CultureInfo.InvariantCulture,
            out double seconds) ? seconds : 3;

    [Fact]
    public async Task EightDriversAndEightDevicesShareTooFewPagesWithoutStarvationOrLeakAndTheDataIsRight()
    {
        using Machine machine = Machine.Create(new() { MemoryBytes = 4UL << 30 });
        int free = ((FrameAllocator)machine.Frames).FreeFrames;
        Engine[] engines = [.. Enumerable.Range(0, Devices).Select(_ => new Engine(machine.Plug(new RogueDevice())))];
        foreach (PciFunction function in PciBus.Enumerate(machine))
        {
            if (engines.Any(e => e.Device.Address == function.Address)) { function.EnableBusMaster(); }
        }
        DmaSystem system = DmaSystem.Start(
            machine, new() { Bounce = new() { Pages = PoolPages, MaximumPages = PoolPages } });
        DmaAdapter[] adapters = [.. engines.Select((e, i) => system.CreateAdapter(
            e.Device.Address, new() { AddressBits = 32, ScatterGather = i != 3, BoundaryLog2 = i == 3 ? 18 : 64 },
            $"driver of {i}"))];

        Flow[] flows = [.. from driver in Enumerable.Range(0, Drivers)
                           from device in Enumerable.Range(0, Devices)
                           select new Flow(machine, adapters[device], engines[device], (driver * Devices) + device)];
        long start = Stopwatch.GetTimestamp();
        using CancellationTokenSource stop = new(TimeSpan.FromSeconds(Seconds));
        await Task.WhenAll(flows.Select(f => Task.Run(() => f.RunAsync(stop.Token))))
            .WaitAsync(TimeSpan.FromSeconds(Seconds + 20));
        double elapsed = Stopwatch.GetElapsedTime(start).TotalSeconds;

        DmaStatistics dma = system.Statistics;
        BounceStatistics pool = system.BounceStatistics;
        foreach (Engine engine in engines) { engine.Dispose(); }
        foreach (Flow flow in flows) { flow.Dispose(); }
        foreach (DmaAdapter adapter in adapters) { adapter.Dispose(); }
        long[] perDevice = [.. Enumerable.Range(0, Devices).Select(
            d => flows.Where((_, i) => i % Devices == d).Sum(static f => f.Done))];
        output.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{elapsed:0.0} s: {dma.Requests:N0} transfers, {dma.Bytes:N0} bytes, {dma.BouncedBytes:N0} copied; "
            + $"{dma.Waited:N0} waited, the longest {dma.LongestWaitNanoseconds / 1e6:0.0} ms; "
            + $"{flows.Sum(static f => f.Cancelled):N0} cancelled; the pool: {pool}; "
            + $"transfers per device {string.Join(' ', perDevice)}; per flow at least {flows.Min(static f => f.Done)}, "
            + $"at most {flows.Max(static f => f.Done)}"));

        Assert.Empty(machine.Failures);
        Assert.Equal(flows.Sum(static f => f.Done), dma.Requests);
        Assert.True(dma.Waited > dma.Requests / 4, "there were pages enough");
        Assert.True(dma.LongestWaitNanoseconds < LongestWaitAllowed.TotalNanoseconds);
        Assert.All(flows, static f => Assert.True(f.Done > 0));
        Assert.True(perDevice.Min() * 4 > perDevice.Max(), "one device had less than a quarter of another's turns");
        Assert.Equal(0, dma.Outstanding);
        Assert.Equal((PoolPages, PoolPages, 0), (pool.Pages, pool.FreePages, pool.QuarantinedPages));
        Assert.Empty(system.Leaks);
        system.Dispose();
        Assert.Equal(free, ((FrameAllocator)machine.Frames).FreeFrames);
    }

    // What one driver does with one device: requests one after the other, each checked to the byte.
    private sealed class Flow(Machine machine, DmaAdapter adapter, Engine engine, int seed) : IDisposable
    {
        private const int Margin = 300;
        private readonly Mdl _buffer = Mdl.Allocate(machine, LongestTransfer + (2 * Margin), seed * 61 % 4096);
        private readonly byte[] _before = new byte[LongestTransfer + (2 * Margin)];
        private readonly byte[] _after = new byte[LongestTransfer + (2 * Margin)];
        private readonly byte[] _device = new byte[LongestTransfer];
        private readonly Random _random = new(seed);

        public long Done { get; private set; }

        public long Cancelled { get; private set; }

        public async Task RunAsync(CancellationToken stop)
        {
            while (!stop.IsCancellationRequested)
            {
                using CancellationTokenSource impatient = new();
                if (_random.Next(10) == 0) { impatient.CancelAfter(TimeSpan.FromMicroseconds(_random.Next(2000))); }
                try { await TransferAsync(impatient.Token); }
                catch (OperationCanceledException) { Cancelled++; }
            }
        }

        private async Task TransferAsync(CancellationToken impatient)
        {
            uint length = (uint)_random.Next(1, _random.Next(3) == 0 ? 600 : (int)LongestTransfer + 1);
            uint offset = Margin + (uint)_random.Next((int)(LongestTransfer - length) + 1);
            DmaDirection direction = (DmaDirection)_random.Next(1, 4);
            _random.NextBytes(_before.AsSpan(0, 4096));
            for (int i = 4096; i < _before.Length; i <<= 1)
            {
                _before.AsSpan(0, Math.Min(i, _before.Length - i)).CopyTo(_before.AsSpan(i));
            }
            _buffer.CopyFrom(0, _before);
            ScatterGatherLease list = await adapter.GetScatterGatherListAsync(
                _buffer, offset, length, direction, cancellationToken: impatient);
            int written = direction == DmaDirection.ToDevice ? 0 : _random.Next((int)length + 1);
            _random.NextBytes(_device.AsSpan(0, Math.Min(written, 512)));
            bool same = await engine.Submit(new(
                list.Elements(), _before.AsMemory((int)offset, (int)length), _device.AsMemory(0, written)));
            Assert.True(same, "the device read other bytes than the buffer's");
            adapter.PutScatterGatherList(list);
            _device.AsSpan(0, written).CopyTo(_before.AsSpan((int)offset));
            _buffer.CopyTo(0, _after);
            Assert.True(_before.AsSpan().SequenceEqual(_after), "the buffer holds other bytes than the device wrote");
            Done++;
        }

        public void Dispose() => _buffer.Dispose();
    }

    private sealed record Job(IReadOnlyList<ScatterGatherElement> Elements, Memory<byte> Expected, Memory<byte> Written)
    {
        public TaskCompletionSource<bool> Ended { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }

    // A DMA engine on a thread of its own: reads all it was given, then writes the first part of it.
    private sealed class Engine : IDisposable
    {
        private readonly BlockingCollection<Job> _jobs = [];
        private readonly Thread _thread;

        public Engine(RogueDevice device)
        {
            Device = device;
            _thread = new(Run) { IsBackground = true };
            _thread.Start();
        }

        public RogueDevice Device { get; }

        public Task<bool> Submit(Job job)
        {
            _jobs.Add(job);
            return job.Ended.Task;
        }

        public void Dispose()
        {
            _jobs.CompleteAdding();
            _thread.Join();
            _jobs.Dispose();
        }

        private void Run()
        {
            byte[] seen = new byte[LongestTransfer];
            foreach (Job job in _jobs.GetConsumingEnumerable())
            {
                bool good = Move(job, seen, read: true)
                    && seen.AsSpan(0, job.Expected.Length).SequenceEqual(job.Expected.Span);
                job.Ended.SetResult(good && Move(job, seen, read: false));
            }
        }

        private bool Move(Job job, byte[] seen, bool read)
        {
            int done = 0;
            bool moved = true;
            foreach (ScatterGatherElement element in job.Elements)
            {
                int length = (int)element.Length;
                if (read)
                {
                    moved &= Device.Port.Read(element.Address, seen.AsSpan(done, length)) == DmaStatus.Completed;
                }
                else
                {
                    length = Math.Clamp(job.Written.Length - done, 0, length);
                    ReadOnlySpan<byte> bytes = job.Written.Span.Slice(Math.Min(done, job.Written.Length), length);
                    moved &= Device.Port.Write(element.Address, bytes) == DmaStatus.Completed;
                }
                done += (int)element.Length;
            }
            return moved;
        }
    }
}
