using Sluice.Iommu;
using Sluice.Iommu.Vtd;
using Sluice.Remapping;
using Sluice.Remapping.Vtd;

namespace Sluice.Dma.Tests;

/// <summary>
/// A machine of memory, frames, a clock and a VT-d unit: low memory from 16 MiB, high memory from 4 GiB. Interrupts
/// and timers run only when a test says so.
/// </summary>
internal sealed class TestPlatform : IPlatform, IInterruptSink, IDisposable
{
    internal const ulong Low = 0x0100_0000;
    internal const ulong High = 0x1_0000_0000;
    private static readonly PhysicalAddress UnitRegisters = new(0xFED9_0000);
    private static readonly PhysicalAddress SecondRegisters = new(0xFED9_1000);
    private readonly MemoryBanks _banks;
    private readonly List<Line> _lines = [];
    private readonly TranslationPort _port;
    private TranslationPort? _secondPort;

    internal TestPlatform(int seed = 1, uint bytesPerBank = 8 << 20, VtdOptions? unit = null)
    {
        _banks = new(
            new MemoryBank(new(Low), NativeBlock.Allocate(bytesPerBank), 0, bytesPerBank),
            new MemoryBank(new(High), NativeBlock.Allocate(bytesPerBank), 0, bytesPerBank));
        TestFrames = new(_banks.Memory, seed, bytesPerBank);
        Unit = new(unit ?? new VtdOptions(), _banks.Memory, this);
        _port = Unit.Connect("test");
    }

    internal TestFrames TestFrames { get; }

    internal TestClock TestClock { get; } = new();

    internal VtdUnit Unit { get; }

    /// <summary>Another unit, in front of <see cref="BehindSecond"/> alone, never deaf; null without one.</summary>
    internal VtdUnit? Second { get; private set; }

    /// <summary>The device that is behind the second unit.</summary>
    internal PciAddress BehindSecond { get; private set; }

    /// <summary>Functions that share requester ids, for systems started from now on.</summary>
    internal AliasGroup[] Groups { get; set; } = [];

    /// <summary>Runs before a 64-bit register write: while the operating-system side is at work.</summary>
    internal Action? BeforeUnitWrite { get; set; }

    /// <summary>Whether the unit still takes register writes.</summary>
    internal bool UnitIsDeaf { get; set; }

    /// <summary>Whether every access to the unit's registers throws.</summary>
    internal bool UnitThrows { get; set; }

    public PhysicalMemory Memory => _banks.Memory;

    public IFrameAllocator Frames => TestFrames;

    public IPlatformClock Clock => TestClock;

    public IPciConfiguration? Pci => null;

    public LogicalRange? InterruptWindow { get; init; } = new(new(0xFEE0_0000), new(0xFEEF_FFFF));

    public IReadOnlyList<LogicalRange> BusWindows { get; } = [new(new(0xE000_0000), new(0xEFFF_FFFF))];

    public RegisterWindow MapRegisters(PhysicalAddress first, uint length)
    {
        if (first == SecondRegisters && Second is { } second) { return second.Registers; }
        Assert.Equal(UnitRegisters, first);
        return new DeafWindow(this);
    }

    /// <summary>Puts a unit of its own in front of a device, for systems started from now on.</summary>
    internal void AddSecondUnit(PciAddress device)
    {
        (Second, BehindSecond) = (new(new VtdOptions(), _banks.Memory, this), device);
        _secondPort = Second.Connect("second");
    }

    public IInterruptLine ConnectInterrupt(string name, Action handler)
    {
        Line line = new(this, (byte)(0x30 + _lines.Count), handler);
        _lines.Add(line);
        return line;
    }

    public void Deliver(MsiMessage message)
    {
        foreach (Line line in _lines) { line.Pending |= line.Message == message; }
    }

    /// <summary>A DMA system over this machine; without policy, without the unit.</summary>
    internal DmaSystem Start(InvalidationPolicy? policy, DmaOptions? options = null) => policy is { } remapped
        ? DmaSystem.Start(
            this, (options ?? new()) with { Iommu = DmaIommu.Vtd, Policy = remapped },
            faults => RemappingSystem.Start(
                this, Memory, new RemappingOptions { WaitNanoseconds = 1_000_000 }, faults,
                new FirmwareDescription(48, Units, [])
                {
                    Groups = Groups,
                }))
        : DmaSystem.Start(this, options ?? new());

    private VtdUnitDescription[] Units => Second is null
        ? [new VtdUnitDescription(UnitRegisters, 0, IncludesAll: true, [])]
        :
        [
            new(SecondRegisters, 0, IncludesAll: false, [new(BehindSecond.Requester)]),
            new(UnitRegisters, 0, IncludesAll: true, []),
        ];

    /// <summary>A DMA of a device, page by page through the unit when it is on; false at the first refusal.</summary>
    internal bool Dma(PciAddress device, LogicalAddress address, Span<byte> bytes, DmaAccess access,
        TranslationPort? port = null)
    {
        VtdUnit unit = device == BehindSecond && Second is { } second ? second : Unit;
        port ??= unit == Unit ? _port : _secondPort!;
        port.Enter();
        try
        {
            while (!bytes.IsEmpty)
            {
                if (!unit.TryTranslate(port, new(device, address, access), out PhysicalRun run)) { return false; }
                Span<byte> here = bytes[..(int)Math.Min((ulong)bytes.Length,
                    Math.Min(run.Length, 4096 - address.OffsetIn(12)))];
                bool done = access == DmaAccess.Read ? Memory.TryRead(run.First, here)
                    : Memory.TryWrite(run.First, here);
                Assert.True(done);
                bytes = bytes[here.Length..];
                address += (ulong)here.Length;
            }
            return true;
        }
        finally { port.Exit(); }
    }

    internal bool DmaRead(PciAddress device, LogicalAddress address, Span<byte> bytes) =>
        Dma(device, address, bytes, DmaAccess.Read);

    internal bool DmaWrite(PciAddress device, LogicalAddress address, byte[] bytes) =>
        Dma(device, address, bytes, DmaAccess.Write);

    /// <summary>Runs interrupt handlers until none is pending.</summary>
    internal void RunInterrupts()
    {
        for (int turn = 0; turn < 1000 && _lines.Find(static l => l.Pending) is { } line; turn++)
        {
            line.Pending = false;
            line.Handler();
        }
    }

    public void Dispose() => _banks.Dispose();

    private sealed class Line(TestPlatform platform, byte vector, Action handler) : IInterruptLine
    {
        public MsiMessage Message => new(new(0xFEE0_0000), vector);

        public Action Handler => handler;

        public bool Pending { get; set; }

        public void Dispose() => platform._lines.Remove(this);
    }

    private sealed class DeafWindow(TestPlatform platform) : RegisterWindow
    {
        private RegisterWindow Unit => platform.UnitThrows
            ? throw new InvalidOperationException("the registers are gone") : platform.Unit.Registers;

        public override uint Length => platform.Unit.Registers.Length;

        public override byte Read8(uint offset) => Unit.Read8(offset);

        public override ushort Read16(uint offset) => Unit.Read16(offset);

        public override uint Read32(uint offset) => Unit.Read32(offset);

        public override ulong Read64(uint offset) => Unit.Read64(offset);

        public override void Write8(uint offset, byte value) => Unit.Write8(offset, value);

        public override void Write16(uint offset, ushort value) => Unit.Write16(offset, value);

        public override void Write32(uint offset, uint value)
        {
            if (!platform.UnitIsDeaf || platform.UnitThrows) { Unit.Write32(offset, value); }
        }

        public override void Write64(uint offset, ulong value)
        {
            platform.BeforeUnitWrite?.Invoke();
            if (!platform.UnitIsDeaf || platform.UnitThrows) { Unit.Write64(offset, value); }
        }
    }
}

/// <summary>Time that only a test moves; timers fire when it does.</summary>
internal sealed class TestClock : IPlatformClock
{
    private readonly List<(long Period, Action Callback)> _timers = [];

    /// <summary>Runs when somebody asks for the time: in the middle of a put.</summary>
    internal Action? Asked { get; set; }

    public long Nanoseconds
    {
        get
        {
            Asked?.Invoke();
            return field;
        }
        set;
    }

    public void Relax() => Nanoseconds += 100;

    public IDisposable StartTimer(string name, long periodNanoseconds, Action callback)
    {
        (long, Action) timer = (periodNanoseconds, callback);
        _timers.Add(timer);
        return new Stop(() => _timers.Remove(timer));
    }

    internal int Timers => _timers.Count;

    internal void FireTimers() => _timers.ForEach(static t => t.Callback());

    private sealed class Stop(Action action) : IDisposable
    {
        public void Dispose() => action();
    }
}

/// <summary>Frames in a seeded shuffle, low and high mixed; kinds, double frees and quarantine are checked.</summary>
internal sealed class TestFrames : IFrameAllocator
{
    private const int PageLog2 = 12;
    private readonly Lock _lock = new();
    private readonly PhysicalMemory _memory;
    private readonly Dictionary<ulong, FrameKind> _kinds = [];
    private readonly List<ulong> _free = [];
    private readonly HashSet<ulong> _old = [];
    private readonly HashSet<ulong> _ownerless = [];
    private int _budget = int.MaxValue;
    private IFlushGate? _gate;
    private int _held;

    internal TestFrames(PhysicalMemory memory, int seed, uint bytesPerBank)
    {
        _memory = memory;
        for (ulong at = 0; at < bytesPerBank; at += 1 << PageLog2)
        {
            _free.Add(TestPlatform.Low + at);
            _free.Add(TestPlatform.High + at);
        }
        foreach (ulong page in _free) { _kinds[page] = FrameKind.Free; }
        Random random = new(seed);
        for (int i = _free.Count - 1; i > 0; i--)
        {
            int other = random.Next(i + 1);
            (_free[i], _free[other]) = (_free[other], _free[i]);
        }
    }

    public int QuarantinedFrames => Count(FrameKind.Quarantined);

    internal int Count(FrameKind kind)
    {
        lock (_lock) { return _kinds.Values.Count(k => k == kind); }
    }

    /// <summary>The frames of a kind.</summary>
    internal PhysicalAddress[] All(FrameKind kind)
    {
        lock (_lock) { return [.. _kinds.Where(p => p.Value == kind).Select(static p => new PhysicalAddress(p.Key))]; }
    }

    /// <summary>Only this many frames more.</summary>
    internal void Limit(int frames) => _budget = frames;

    /// <summary>Makes a page something else, for tests of what must not be mapped.</summary>
    internal void Mark(PhysicalAddress page, FrameKind kind)
    {
        lock (_lock)
        {
            _kinds[page.Value] = kind;
            _free.Remove(page.Value);
        }
    }

    /// <summary>Runs before frames are taken, with what for; false says that there are none.</summary>
    internal Func<FrameKind, bool>? Allocating { get; set; }

    public int HeldFrames => Volatile.Read(ref _held);

    public void HoldFreed(IFlushGate? gate)
    {
        lock (_lock)
        {
            if (gate is not null && _gate is not null) { throw new InvalidOperationException("there is another gate"); }
            _gate = gate;
        }
        while (gate is null && FreeHeld()) { }
    }

    public bool FreeHeld()
    {
        lock (_lock)
        {
            foreach (ulong page in _old) { MakeFree(new(page)); }
            _held -= _old.Count;
            _old.Clear();
            _old.UnionWith(_kinds.Where(static p => p.Value == FrameKind.AwaitsFlush).Select(static p => p.Key));
            return _old.Count != 0;
        }
    }

    public bool TryAllocate(FrameKind kind, int sizeLog2, out PhysicalAddress first, PhysicalAddress? last = null)
    {
        if (TryTake(kind, sizeLog2, out first, last)) { return true; }
        if (_gate is not { } gate || HeldFrames == 0) { return false; }
        gate.Flush();
        return TryTake(kind, sizeLog2, out first, last);
    }

    private bool TryTake(FrameKind kind, int sizeLog2, out PhysicalAddress first, PhysicalAddress? last)
    {
        if (Allocating?.Invoke(kind) == false)
        {
            first = default;
            return false;
        }
        lock (_lock)
        {
            first = default;
            ulong size = 1UL << sizeLog2;
            if (_budget < (int)(size >> PageLog2)) { return false; }
            for (int i = _free.Count - 1; i >= 0; i--)
            {
                ulong start = _free[i];
                if ((start & (size - 1)) != 0 || new PhysicalAddress(start + (size - 1)) > last || !IsFree(start, size)) { continue; }
                if (sizeLog2 == PageLog2) { _free.RemoveAt(i); }
                else { _free.RemoveAll(p => p - start < size); }
                for (ulong at = 0; at < size; at += 1 << PageLog2)
                {
                    _kinds[start + at] = kind;
                    _memory.TryGetSpan(new(start + at), 1 << PageLog2, out Span<byte> bytes);
                    bytes.Clear();
                }
                _budget -= (int)(size >> PageLog2);
                first = new(start);
                return true;
            }
            return false;
        }
    }

    /// <summary>Runs before frames become free, with what they were.</summary>
    internal Action<FrameKind>? Freeing { get; set; }

    public void Free(PhysicalAddress first, int sizeLog2)
    {
        Freeing?.Invoke(KindOf(first));
        lock (_lock)
        {
            for (ulong at = 0; at < 1UL << sizeLog2; at += 1 << PageLog2)
            {
                if (KindOf(first + at) is FrameKind.Free or FrameKind.Absent or FrameKind.Quarantined
                    or FrameKind.AwaitsFlush)
                {
                    throw new InvalidOperationException($"{first + at} is {KindOf(first + at)}");
                }
                GiveBack(first + at, KindOf(first + at) == FrameKind.Buffer);
            }
        }
    }

    /// <summary>Runs before a frame goes into quarantine.</summary>
    internal Action<PhysicalAddress>? Quarantining { get; set; }

    public void Quarantine(PhysicalAddress frame)
    {
        Quarantining?.Invoke(frame);
        lock (_lock)
        {
            if (KindOf(frame) is var kind and (FrameKind.Free or FrameKind.Absent or FrameKind.Quarantined))
            {
                throw new InvalidOperationException($"the frame at {frame} is {kind} and cannot be quarantined");
            }
            if (KindOf(frame) == FrameKind.AwaitsFlush)
            {
                _ownerless.Add(frame.Value);
                _held--;
            }
            _old.Remove(frame.Value);
            _kinds[frame.Value] = FrameKind.Quarantined;
        }
    }

    public void Release(PhysicalAddress frame)
    {
        lock (_lock)
        {
            Assert.Equal(FrameKind.Quarantined, KindOf(frame));
            _ownerless.Remove(frame.Value);
            GiveBack(frame, wasBuffer: true);
        }
    }

    public void Reclaim(PhysicalAddress frame)
    {
        lock (_lock)
        {
            Assert.Equal(FrameKind.Quarantined, KindOf(frame));
            if (_ownerless.Remove(frame.Value)) { GiveBack(frame, wasBuffer: true); }
            else { _kinds[frame.Value] = FrameKind.Buffer; }
        }
    }

    public FrameKind KindOf(PhysicalAddress address)
    {
        lock (_lock) { return _kinds.GetValueOrDefault(address.AlignDown(PageLog2).Value); }
    }

    private void GiveBack(PhysicalAddress frame, bool wasBuffer)
    {
        if (!wasBuffer || _gate is not { IsPending: true })
        {
            MakeFree(frame);
            return;
        }
        _kinds[frame.Value] = FrameKind.AwaitsFlush;
        _held++;
    }

    private void MakeFree(PhysicalAddress frame)
    {
        _kinds[frame.Value] = FrameKind.Free;
        _free.Insert(0, frame.Value);
        if (_budget != int.MaxValue) { _budget++; }
    }

    private bool IsFree(ulong start, ulong size)
    {
        for (ulong at = 0; at < size; at += 1 << PageLog2)
        {
            if (_kinds.GetValueOrDefault(start + at) != FrameKind.Free) { return false; }
        }
        return true;
    }
}
