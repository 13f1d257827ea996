using System.Numerics;

namespace Sluice.Machines;

/// <summary>
/// Where interrupt messages arrive: one latch per vector, and one thread that runs the handlers. Equal messages merge
/// while they wait; one that arrives while its handler runs makes it run once more.
/// </summary>
public sealed class InterruptController : IInterruptSink
{
    private const int FirstVector = 0x30;
    private const int LastVector = 0xEF;
    private readonly Lock _lock = new();
    private readonly Execution _execution;
    private readonly KernelArea _kernel;
    private readonly LogicalRange? _window;
    private readonly ulong[] _pending = new ulong[4];
    private readonly Line?[] _lines = new Line?[256];
    private readonly Agent _agent;
    private uint _handlers;
    private long _delivered;
    private long _dispatched;
    private long _spurious;
    private int _lose;
    private int _delay;
    private long _delayNanoseconds;

    internal InterruptController(Execution execution, KernelArea kernel, LogicalRange? window)
    {
        (_execution, _kernel, _window) = (execution, kernel, window);
        _agent = execution.AddAgent("interrupts", DispatchOne);
    }

    /// <summary>Messages that arrived, merged or not.</summary>
    public long Delivered => Volatile.Read(ref _delivered);

    /// <summary>Handlers run.</summary>
    public long Dispatched => Volatile.Read(ref _dispatched);

    /// <summary>Messages for vectors that nobody has connected.</summary>
    public long Spurious => Volatile.Read(ref _spurious);

    /// <summary>Fault injection: the next <paramref name="count"/> messages vanish.</summary>
    public void LoseNext(int count) => Volatile.Write(ref _lose, count);

    /// <summary>Fault injection: the next <paramref name="count"/> messages arrive late.</summary>
    public void DelayNext(int count, long nanoseconds)
    {
        Volatile.Write(ref _delayNanoseconds, nanoseconds);
        Volatile.Write(ref _delay, count);
    }

    /// <inheritdoc/>
    public void Deliver(MsiMessage message)
    {
        Interlocked.Increment(ref _delivered);
        if (TakeOne(ref _lose)) { return; }
        byte vector = message.Vector;
        if (TakeOne(ref _delay))
        {
            LatchLater(vector);
            return;
        }
        Latch(vector);
    }

    internal Line Connect(string name, Action handler)
    {
        if (_window is not { } window)
        {
            throw new InvalidOperationException($"this machine takes no interrupt messages; {name} has to poll");
        }
        lock (_lock)
        {
            for (int vector = FirstVector; vector <= LastVector; vector++)
            {
                if (_lines[vector] is not null) { continue; }
                Line line = new(this, name, new(window.First, (uint)vector), ++_handlers, handler);
                Volatile.Write(ref _lines[vector], line);
                _kernel.SetVector((byte)vector, line.Id);
                return line;
            }
        }
        throw new InvalidOperationException($"all interrupt vectors are taken; none is left for {name}");
    }

    private static bool TakeOne(ref int count)
    {
        for (int seen = Volatile.Read(ref count); seen > 0; seen = Volatile.Read(ref count))
        {
            if (Interlocked.CompareExchange(ref count, seen - 1, seen) == seen) { return true; }
        }
        return false;
    }

    // Apart, because the closure's object would be made at the start of the method, for every message.
    private void LatchLater(byte vector) =>
        _execution.After("late interrupt", Volatile.Read(ref _delayNanoseconds), () => Latch(vector));

    private void Latch(byte vector)
    {
        Interlocked.Or(ref _pending[vector >> 6], 1UL << vector);
        _agent.Wake();
    }

    /// <summary>The highest pending vector first, as on x86.</summary>
    private bool DispatchOne()
    {
        for (int i = _pending.Length - 1; i >= 0; i--)
        {
            ulong word = Volatile.Read(ref _pending[i]);
            if (word == 0) { continue; }
            int bit = BitOperations.Log2(word);
            // Cleared before the handler runs: what arrives while it runs is seen again.
            Interlocked.And(ref _pending[i], ~(1UL << bit));
            Dispatch((byte)(i * 64 + bit));
            return true;
        }
        return false;
    }

    private void Dispatch(byte vector)
    {
        _execution.Trace(0x100u + vector);
        // Through memory, as a processor does: a DMA that reached the table would be noticed here.
        if (!_kernel.TryGetVector(vector, out uint handler)) { return; }
        Line? line = Volatile.Read(ref _lines[vector]);
        if (line is null || line.Id != handler)
        {
            Interlocked.Increment(ref _spurious);
            return;
        }
        _kernel.Call(KernelCall.Interrupt);
        try
        {
            line.Run();
            Interlocked.Increment(ref _dispatched);
        }
        catch (Exception e)
        {
            _execution.AddFailure(new MachineException($"interrupt handler {line.Name}: {e.Message}", e));
        }
    }

    private void Disconnect(Line line)
    {
        lock (_lock)
        {
            if (_lines[line.Vector] != line) { return; }
            _kernel.SetVector(line.Vector, 0);
            Volatile.Write(ref _lines[line.Vector], null);
        }
    }

    internal sealed class Line(InterruptController owner, string name, MsiMessage message, uint id, Action handler)
        : IInterruptLine
    {
        private readonly Lock _running = new();
        private volatile bool _disposed;

        public string Name { get; } = name;

        public byte Vector => Message.Vector;

        public uint Id { get; } = id;

        public MsiMessage Message { get; } = message;

        public void Run()
        {
            lock (_running)
            {
                if (!_disposed) { handler(); }
            }
        }

        public void Dispose()
        {
            _disposed = true;
            owner.Disconnect(this);
            BoundedLock.WaitFor(_running, Name);
        }
    }
}
