using System.Globalization;
using Sluice.Iommu;
using Sluice.Machines;
using Sluice.Remapping;

namespace Sluice.Dma.Tests;

/// <summary>
/// Units that stop answering while drivers wait for everything there is to wait for, on real threads. Three seconds;
/// <c>SLUICE_STRESS_SECONDS=60</c> for longer.
/// </summary>
[Collection("alone")]
public sealed class DyingUnitStressTests(ITestOutputHelper output)
{
    private const int RoundsPerMachine = 40;
    private static readonly TimeSpan LongestWaitAllowed = TimeSpan.FromSeconds(10);
    private static readonly string[] Backends = ["strict", "deferred", "shadow", "isolated"];

    private static double Seconds =>
        double.TryParse(Environment.GetEnvironmentVariable("SLUICE_STRESS_SECONDS"), CultureInfo.InvariantCulture,
            out double seconds) ? seconds : 3;

    // Seen failing: a domain that told nobody of its death: in the first round somebody waited for good.
    [Fact]
    public async Task DyingUnitsWithEveryKindOfWaiterAllAnswered()
    {
        using CancellationTokenSource stop = new(TimeSpan.FromSeconds(Seconds));
        long[] answered = new long[2];
        int rounds = 0;
        double longest = 0;
        while (!stop.IsCancellationRequested)
        {
            using Machine machine = Machine.Create(new() { MemoryBytes = 256UL << 20, Iommu = MachineIommu.Vtd });
            for (int i = 0; i < RoundsPerMachine && !stop.IsCancellationRequested; i++, rounds++)
            {
                longest = Math.Max(longest, await RoundAsync(machine, rounds, answered));
            }
            Assert.Empty(machine.Failures);
        }
        output.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{rounds:N0} units died; {answered[0]:N0} requests served, {answered[1]:N0} told that the device is "
            + $"blocked, none without an answer; the last answer came {longest:0.0} ms after the death"));
        Assert.True(answered[0] > 0 && answered[1] > 0);
    }

    private static async Task<double> RoundAsync(Machine machine, int round, long[] answered)
    {
        DyingPlatform platform = new(machine);
        string backend = Backends[round % Backends.Length];
        DmaSystem system = DmaSystem.Start(platform, BackendTests.OptionsOf(backend) with
        {
            Iommu = DmaIommu.Vtd, Policy = BackendTests.PolicyOf(backend)!.Value, MapRegistersPerAdapter = 24,
            Remapping = new() { WaitNanoseconds = 3_000_000 },
            Shadow = new() { LargestSlotLog2 = 3, MaximumPages = 64 },
        });
        List<Mdl> buffers = [];
        List<Task> drivers = [];
        for (int device = 0; device < 3; device++)
        {
            DmaAdapter adapter = system.CreateAdapter(PciAddress.From(0, (byte)(16 + device), 0), new(), $"d{device}");
            DmaReservation reservation = adapter.Reserve(4096, 2);
            for (int i = 0; i < 6; i++)
            {
                Mdl mdl = Mdl.Allocate(platform, 5 * 4096, 40);
                buffers.Add(mdl);
                (int kind, DmaReservation reserved) = (i, reservation);
                drivers.Add(Task.Run(() => DriveAsync(adapter, reserved, mdl, kind, answered)));
            }
        }
        await Task.Delay(new Random(round).Next(1, 12));
        long start = System.Diagnostics.Stopwatch.GetTimestamp();
        platform.IsDeaf = true;
        await Task.WhenAll(drivers).WaitAsync(LongestWaitAllowed);
        double took = System.Diagnostics.Stopwatch.GetElapsedTime(start).TotalMilliseconds;
        platform.IsDeaf = false;
        system.Dispose();
        return took;
    }

    // Until it hears that the device is blocked.
    private static async Task DriveAsync(
        DmaAdapter adapter, DmaReservation reservation, Mdl mdl, int kind, long[] answered)
    {
        while (true)
        {
            // Eighteen drivers and a pool that has two threads at first: one that kept its own would have the others
            // begin seconds after the unit's death.
            await Task.Yield();
            try
            {
                switch (kind)
                {
                    case 0:
                        Put(await adapter.GetScatterGatherListAsync(mdl, 0, 5 * 4096, DmaDirection.ToDevice));
                        break;
                    case 1:
                        Put(await reservation.GetScatterGatherListAsync(mdl, 0, 4096, DmaDirection.FromDevice));
                        break;
                    case 2: await UseAsync(await adapter.AllocateChannelAsync(6), mdl); break;
                    case 3: Put(await CallAsync(adapter, mdl, null)); break;
                    case 4: Put(await CallAsync(adapter, mdl, new(adapter, 4))); break;
                    default: await UseAsync(await CallAsync(adapter), mdl); break;
                }
                Interlocked.Increment(ref answered[0]);
            }
            catch (DmaException e) when (e.Failure == DmaFailure.Dead)
            {
                Interlocked.Increment(ref answered[1]);
                return;
            }
            catch (DmaException e) when (e.Failure == DmaFailure.NotABuffer && adapter.Capabilities.IsBlocked)
            {
                // Its own buffer was quarantined by the transfer before.
            }
        }

        void Put(ScatterGatherLease list) => adapter.PutScatterGatherList(list);
    }

    private static async Task UseAsync(DmaChannel channel, Mdl mdl)
    {
        using (channel)
        {
            DmaFailure failure = channel.TryMap(
                mdl, 0, 8192, DmaDirection.ToDevice, out ScatterGatherLease list, out _);
            await Task.Yield();
            if (failure == DmaFailure.None) { channel.Flush(list); }
            else if (failure == DmaFailure.Dead) { throw new DmaException(failure, "channel"); }
        }
    }

    private static Task<ScatterGatherLease> CallAsync(DmaAdapter adapter, Mdl mdl, ScatterGatherRequest? request)
    {
        TaskCompletionSource<ScatterGatherLease> told = new(TaskCreationOptions.RunContinuationsAsynchronously);
        ScatterGatherCallback callback = (list, failure, _) =>
        {
            if (failure == DmaFailure.None) { told.SetResult(list); }
            else { told.SetException(new DmaException(failure, "list")); }
        };
        if (request is null) { adapter.GetScatterGatherList(mdl, 0, 8192, DmaDirection.Bidirectional, callback); }
        else { adapter.BuildScatterGatherList(request, mdl, 0, 8192, DmaDirection.ToDevice, callback); }
        return told.Task;
    }

    private static Task<DmaChannel> CallAsync(DmaAdapter adapter)
    {
        TaskCompletionSource<DmaChannel> told = new(TaskCreationOptions.RunContinuationsAsynchronously);
        adapter.AllocateChannel(new(adapter), 6, (channel, failure, _) =>
        {
            if (channel is not null) { told.SetResult(channel); }
            else { told.SetException(new DmaException(failure, "channel")); }
        });
        return told.Task;
    }

    /// <summary>A machine whose remapping unit takes register writes only while it is told to.</summary>
    private sealed class DyingPlatform(Machine machine) : IPlatform
    {
        private volatile bool _isDeaf;

        public bool IsDeaf { get => _isDeaf; set => _isDeaf = value; }

        public PhysicalMemory Memory => machine.Memory;

        public IFrameAllocator Frames => machine.Frames;

        public IPlatformClock Clock => machine.Clock;

        public IPciConfiguration Pci => machine.Pci;

        public LogicalRange? InterruptWindow => machine.InterruptWindow;

        public IReadOnlyList<LogicalRange> BusWindows => machine.BusWindows;

        public RegisterWindow MapRegisters(PhysicalAddress first, uint length) =>
            new Window(this, machine.MapRegisters(first, length));

        public IInterruptLine ConnectInterrupt(string name, Action handler) => machine.ConnectInterrupt(name, handler);

        private sealed class Window(DyingPlatform platform, RegisterWindow below) : RegisterWindow
        {
            public override uint Length => below.Length;

            public override byte Read8(uint offset) => below.Read8(offset);

            public override ushort Read16(uint offset) => below.Read16(offset);

            public override uint Read32(uint offset) => below.Read32(offset);

            public override ulong Read64(uint offset) => below.Read64(offset);

            public override void Write8(uint offset, byte value) => below.Write8(offset, value);

            public override void Write16(uint offset, ushort value) => below.Write16(offset, value);

            public override void Write32(uint offset, uint value)
            {
                if (!platform.IsDeaf) { below.Write32(offset, value); }
            }

            public override void Write64(uint offset, ulong value)
            {
                if (!platform.IsDeaf) { below.Write64(offset, value); }
            }
        }
    }
}
