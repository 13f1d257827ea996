using System.Runtime.ExceptionServices;
using Sluice.Dma;
using Sluice.Machines;
using Sluice.Remapping;

namespace Sluice.Cli.Bench;

/// <summary>
/// Get and put of 4 KiB lists by as many threads as there are processors, each with a device of its own, on one machine
/// with one unit; held against one thread with one device. A ratio of the number of threads is perfect.
/// </summary>
internal sealed class ThreadsCase : BenchCase
{
    private readonly InvalidationPolicy _policy;
    private readonly Machine _machine;
    private readonly DmaSystem _dma;
    private readonly Worker[] _workers;

    /// <summary>A row for a policy, with <paramref name="threads"/> threads, at least 1; the caller is one.</summary>
    public ThreadsCase(InvalidationPolicy policy, int threads)
    {
        _policy = policy;
        _machine = Machine.Create(new() { Iommu = MachineIommu.Vtd, MemoryBytes = 128UL << 20 });
        RogueDevice[] devices = [.. Enumerable.Range(0, threads).Select(_ => _machine.Plug(new RogueDevice()))];
        _dma = DmaSystem.Start(_machine, new() { Iommu = DmaIommu.Vtd, Policy = policy });
        _workers = [.. devices.Select((device, i) => new Worker(_machine, _dma, device, ofItsOwn: i > 0))];
    }

    /// <inheritdoc/>
    public override string Name => NameOf(_policy);

    /// <inheritdoc/>
    public override string What =>
        "get and put of one list, by a thread for each processor, each with its own device behind the same unit";

    /// <inheritdoc/>
    public override string BaselineName => $"one thread, one device ({_workers.Length} threads in the row)";

    /// <inheritdoc/>
    public override double ExpectedNanoseconds => 150;

    /// <summary>Lists got so far by all threads.</summary>
    internal long Requests => _dma.Statistics.Requests;

    /// <summary>A row's name.</summary>
    public static string NameOf(InvalidationPolicy policy) =>
        $"list-{policy.ToString().ToLowerInvariant()}-4k-all-cores";

    /// <inheritdoc/>
    public override void Run(int operations)
    {
        int each = Math.Max(1, operations / _workers.Length);
        for (int i = 1; i < _workers.Length; i++) { _workers[i].Begin(each); }
        _workers[0].Work(each);
        for (int i = 1; i < _workers.Length; i++) { _workers[i].Join(); }
    }

    /// <inheritdoc/>
    public override void RunBaseline(int operations) => _workers[0].Work(operations);

    /// <inheritdoc/>
    public override void Dispose()
    {
        foreach (Worker worker in _workers) { worker.Dispose(); }
        _dma.Dispose();
        _machine.Dispose();
    }

    // A device with its driver, and the thread that it runs on unless that is the caller's.
    private sealed class Worker : IDisposable
    {
        // Two lines of the processor's cache: what one worker writes lies in none that another one uses. Without them it
        // is the heap's luck how much they slow each other down.
        private const int Apart = 128;
        private readonly byte[] _before = new byte[Apart];
        private readonly AutoResetEvent _begin = new(false);
        private readonly AutoResetEvent _done = new(false);
        private readonly DmaAdapter _adapter;
        private readonly Mdl _buffer;
        private readonly Thread? _thread;
        private readonly byte[] _after;
        private int _operations;
        private ExceptionDispatchInfo? _failure;

        public Worker(Machine machine, DmaSystem dma, RogueDevice device, bool ofItsOwn)
        {
            _adapter = dma.CreateAdapter(device.Address, new(), "bench");
            _buffer = Mdl.Allocate(machine, 4096);
            _after = new byte[Apart];
            if (!ofItsOwn) { return; }
            _thread = new(Loop) { IsBackground = true, Name = $"bench {device.Address}" };
            _thread.Start();
        }

        public void Begin(int operations)
        {
            _operations = operations;
            _begin.Set();
        }

        public void Join()
        {
            _done.WaitOne();
            _failure?.Throw();
        }

        public void Work(int operations)
        {
            for (int i = 0; i < operations; i++)
            {
                if (!_adapter.TryGetScatterGatherList(
                    _buffer, 0, 4096, DmaDirection.FromDevice, out ScatterGatherLease list))
                {
                    throw new InvalidOperationException("no logical space");
                }
                _adapter.PutScatterGatherList(list);
            }
        }

        public void Dispose()
        {
            GC.KeepAlive(_before);
            GC.KeepAlive(_after);
            if (_thread is not null)
            {
                Begin(0);
                _thread.Join();
            }
            _buffer.Dispose();
            _begin.Dispose();
            _done.Dispose();
        }

        private void Loop()
        {
            while (true)
            {
                _begin.WaitOne();
                if (_operations == 0) { return; }
                try { Work(_operations); }
                catch (Exception e) { _failure = ExceptionDispatchInfo.Capture(e); }
                _done.Set();
            }
        }
    }
}
