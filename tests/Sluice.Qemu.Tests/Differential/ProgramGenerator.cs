using Sluice.Formats.Vtd;

namespace Sluice.Qemu.Tests.Differential;

/// <summary>
/// Turns a seed into a program. It keeps to what the architecture defines; docs/differences.md lists what that leaves
/// out.
/// </summary>
internal sealed class ProgramGenerator
{
    private const uint UnmaskedTranslation = VtdGlobal.TranslationEnable;
    private readonly Random _random;
    private readonly List<Step> _steps = [];
    private readonly int _topLevel;
    private readonly bool _invalidates;
    private readonly bool _queued;
    private readonly bool _lax;
    private uint _tail;
    private bool _translating = true;

    // (l) Devices whose context may have been one of pass-through: QEMU decides that when told of a change, not when
    // asked.
    private readonly bool[] _wild = new bool[Layout.Devices];
    private ulong _root = Layout.RootTable;

    private ProgramGenerator(int seed, int topLevel, bool invalidates)
    {
        (_topLevel, _invalidates) = (topLevel, invalidates);
        _random = new(seed);
        _queued = _random.Next(4) != 0;
        _lax = _random.Next(2) == 0 && !invalidates;
    }

    /// <summary>
    /// The steps that put both machines into the same state, whatever ran before. Memory is initialised before them.
    /// </summary>
    public static IReadOnlyList<Step> Prologue { get; } =
    [
        // A queue that is on is disabled only when it is empty and a wait came last; the memory is full of waits now.
        Narrow(VtdRegister.FaultStatus, VtdFaultStatus.WriteOneToClear, "clear the fault status"),
        Wide(VtdRegister.InvalidationQueueTail, Layout.QueueBytes - 16, "tail"),
        Wide(VtdRegister.InvalidationQueueTail, 0, "tail"),
        Wide(VtdRegister.RootTableAddress, Layout.RootTable, "root table"),
        Narrow(VtdRegister.GlobalCommand, VtdGlobal.SetRootTable, "set root table, all off"),
        Wide(VtdRegister.ContextCommand, VtdContextCommand.For(InvalidationGranularity.Global).Word,
            "drop all contexts"),
        Wide(0xF8, VtdIotlbCommand.For(InvalidationGranularity.Global).Word, "drop all pages"),
        Wide(0xF0, 0, "IVA"),
        Wide(0x228, FaultRecord.ValidBit, "clear the fault record"),
        Narrow(VtdRegister.FaultStatus, VtdFaultStatus.WriteOneToClear, "clear the fault status"),
        Narrow(VtdRegister.InvalidationCompletionStatus, 1, "clear the completion status"),
        Narrow(VtdRegister.FaultEventControl, VtdRegister.EventMask, "mask"),
        Narrow(VtdRegister.InvalidationEventControl, VtdRegister.EventMask, "mask"),
        Narrow(VtdRegister.FaultEventData, 0x41, "data"),
        Narrow(VtdRegister.FaultEventAddress, 0xFEE0_0000, "address"),
        Narrow(VtdRegister.InvalidationEventData, 0x42, "data"),
        Narrow(VtdRegister.InvalidationEventAddress, 0xFEE0_0000, "address"),
        Wide(VtdRegister.InterruptRemappingTable, 0, "interrupt table"),
        Wide(VtdRegister.InvalidationQueueAddress, Layout.Queue, "queue"),
        Wide(VtdRegister.InvalidationQueueTail, 0, "tail"),
        new Step.Dma(0, false, Layout.FirstData, 0, 4096),
        new Step.Dma(1, false, Layout.OtherData, 0, 4096),
        new Step.Dma(2, false, Layout.OtherData, 0, 4096),
    ];

    /// <param name="seed">Any number.</param>
    /// <param name="topLevel">The level of the tables that good contexts begin with: 3, or 2 for 39 bits.</param>
    /// <param name="invalidates">Whether every change is followed by its invalidation: nothing is ever stale.</param>
    public static IReadOnlyList<Step> Create(int seed, int topLevel = 3, bool invalidates = false)
    {
        ProgramGenerator generator = new(seed, topLevel, invalidates);
        generator.Build();
        return generator._steps;
    }

    private void Build()
    {
        Command(UnmaskedTranslation | Queue, "translation on");
        // Near its end the queue wraps.
        if (_queued && _random.Next(6) == 0)
        {
            var idle = InvalidationDescriptor.ForWait(new(Layout.Status + 0x90), 7);
            Enqueue([.. Enumerable.Repeat(idle, _random.Next(235, 256))]);
        }
        int length = _random.Next(20, 60);
        while (_steps.Count < length)
        {
            switch (_random.Next(100))
            {
                case < 33: Dma(); break;
                case < 42 when !_invalidates: StalePages(); break;
                case < 45 when !_invalidates: StaleContexts(); break;
                case < 65: ChangePage(); break;
                case < 72: ChangeContext(); break;
                case < 80: Invalidate(); break;
                case < 90: ClearFaults(); break;
                case < 94: Poke(); break;
                case < 96 when _queued: Malformed(); break;
                case < 98: ToggleTranslation(); break;
                default: SetRoot(); break;
            }
        }
        // What the devices read is in their buffers: with translation off both are written out and compared.
        Drain();
        Command(0, "all off");
        for (int device = 0; device < Layout.Devices; device++)
        {
            _steps.Add(new Step.Dma(device, true, Layout.Dump + (ulong)device * 0x1000, 0, 4096));
        }
    }

    private ContextEntry Context(int device) => Layout.Context(device, _topLevel);

    private uint Queue => _queued ? VtdGlobal.QueuedInvalidationEnable : 0;

    private void Dma()
    {
        ulong address = _random.Next(20) switch
        {
            1 => Layout.FirstData + 0x7000_0000,
            2 => 1UL << 48,
            3 => ulong.MaxValue - 0xFFFF,
            0 or 4 => 0,
            _ => Layout.Bases[_random.Next(Layout.Bases.Length)],
        };
        int page = _random.Next(Layout.DataPages);
        int offset = _random.Next(2) == 0 ? 0 : _random.Next(4096);
        int length = Pick(1, 2, 3, 4, 8, 16, 60, 64, 512, 1000, 4096);
        bool crosses = _random.Next(6) == 0;
        int room = crosses ? Math.Min(4096, (Layout.DataPages - page) * 4096 - offset) : 4096 - offset;
        length = Math.Min(length, room);
        bool toMemory = _random.Next(2) == 0;
        _steps.Add(new Step.Dma(
            _random.Next(Layout.Devices), toMemory, address + (ulong)(page * 4096 + offset),
            _random.Next(4096 - length + 1), length));
    }

    /// <summary>
    /// Warms the caches, changes what they hold, invalidates something that may or may not cover it, and looks.
    /// </summary>
    private void StalePages()
    {
        int device = _random.Next(Layout.Devices);
        int index = _random.Next(Layout.Bases.Length);
        int level = _random.Next(3);
        int page = _random.Next(Layout.DataPages);
        int other = page ^ (1 << _random.Next(3));
        foreach (int each in (ReadOnlySpan<int>)[page, other])
        {
            _steps.Add(new Step.Store(Layout.Entry(device, level, index, each), LeafFor(level, each),
                $"device {device}, level {level}, leaf"));
        }
        InvalidatePages(device, AtLeastDomain(), 0, 0);
        Touch(device, index, page);
        Touch(device, index, other);
        foreach (int each in (ReadOnlySpan<int>)[page, other])
        {
            ulong word = _random.Next(3) == 0 && level > 0 ? Layout.Link(device, level, index)
                : LeafFor(level, each + 1);
            _steps.Add(new Step.Store(Layout.Entry(device, level, index, each), word,
                $"device {device}, level {level}, changed"));
        }
        if (_random.Next(4) == 0) { InvalidatePages(_random.Next(Layout.Devices), AtLeastDomain(), 0, 0); }
        else
        {
            ulong near = Layout.Bases[index] ^ ((ulong)_random.Next(16) << 12) ^ (_random.Next(4) == 0
                ? 1UL << _random.Next(16, 32) : 0);
            InvalidatePages(_random.Next(4) == 0 ? _random.Next(Layout.Devices) : device,
                InvalidationGranularity.Selective, near, _random.Next(_random.Next(2) == 0 ? 5 : 19));
        }
        Touch(device, index, page);
        Touch(device, index, other);
    }

    private ulong LeafFor(int level, int page)
    {
        ulong target = level switch
        {
            0 => Layout.DataPage(_random.Next(2), page % Layout.DataPages),
            1 => Layout.DataPage(_random.Next(2), 0),
            _ => 0,
        };
        return Layout.Leaf(target, _random.Next(4) == 0 ? (DmaAccess)_random.Next(1, 4) : DmaAccess.ReadWrite, level);
    }

    private void Touch(int device, int index, int page) => _steps.Add(new Step.Dma(
        device, _random.Next(2) == 0, Layout.Bases[index] + (ulong)page * 0x1000 + (ulong)_random.Next(4000),
        _random.Next(4000), Pick(1, 4, 64)));

    /// <summary>As above with context entries: all devices warm, all entries gone, some invalidated.</summary>
    private void StaleContexts()
    {
        if (_wild.Contains(true) || !_lax) { return; }
        for (int device = 0; device < Layout.Devices; device++) { Touch(device, device, 0); }
        ulong table = _root == Layout.RootTable ? Layout.ContextTable : Layout.OtherContextTable;
        for (int device = 0; device < Layout.Devices; device++)
        {
            _steps.Add(new Step.Store(Layout.ContextEntryAt(table, device), 0,
                $"context entry of device {device}, absent, no invalidation"));
        }
        InvalidateContexts(_random.Next(Layout.Devices), InvalidationGranularity.Selective);
        for (int device = 0; device < Layout.Devices; device++)
        {
            ClearFaults();
            Touch(device, device, 0);
        }
        for (int device = 0; device < Layout.Devices; device++)
        {
            _steps.Add(new Step.Store(Layout.ContextEntryAt(table, device), Context(device).Low,
                $"context entry of device {device}, good again"));
        }
        _steps.Add(new Step.Group("contexts again", DropAll()));
    }

    private void ChangePage()
    {
        int device = _random.Next(Layout.Devices);
        int index = _random.Next(Layout.Bases.Length);
        int page = _random.Next(Layout.DataPages);
        int level = _random.Next(10) switch { < 6 => 0, < 8 => 1, 8 => 2, _ => 3 };
        ulong entry = Layout.Entry(device, level, index, page);
        bool leaf = level == 0 || (level < 3 && _random.Next(2) == 0);
        ulong target = level switch
        {
            0 => Layout.DataPage(_random.Next(2), _random.Next(Layout.DataPages)),
            1 => Layout.DataPage(_random.Next(2), 0),
            _ => 0,
        };
        var access = (DmaAccess)_random.Next(1, 4);
        ulong good = leaf ? Layout.Leaf(target, access, level) : Layout.Link(device, level, index);
        (ulong value, string what) = _random.Next(12) switch
        {
            0 => (0UL, "absent"),
            1 => (good & ~3UL, "no rights"),
            2 => (good ^ (1UL << _random.Next(64)), "one bit flipped"),
            3 => ((good & 0xFFF) | Layout.Nowhere, "nowhere"),
            4 when !leaf => ((good & ~3UL) | (ulong)access, "link with fewer rights"),
            _ => (good, leaf ? "leaf" : "link"),
        };
        _steps.Add(new Step.Store(entry, value,
            $"device {device}, level {level}, {what} for 0x{Layout.Bases[index] + (ulong)page * 0x1000:X}"));
        if (_lax && _random.Next(2) == 0) { return; }
        ulong address = Layout.Bases[index] + (ulong)page * 0x1000;
        InvalidatePages(device, level == 0 ? Granularity() : AtLeastDomain(), address, _random.Next(4));
    }

    private void ChangeContext()
    {
        int device = _random.Next(Layout.Devices);
        ulong at = Layout.ContextEntryAt(_root == Layout.RootTable ? Layout.ContextTable : Layout.OtherContextTable,
            device);
        ContextEntry good = Layout.Context(device, _random.Next(4) == 0 ? _topLevel ^ 1 : _topLevel);
        ulong low = good.Low, high = good.High;
        switch (_random.Next(10))
        {
            case 0: low = 0; break;
            case 1: low |= 2; break;
            case 2:
                low ^= 1UL << _random.Next(64);
                _wild[device] = true;
                break;
            case 3: high ^= 1UL << _random.Next(64); break;
            case 4: low = (low & 0xFFF) | Layout.Nowhere; break;
            case 5:
                low |= (ulong)TranslationType.PassThrough << 2;
                _wild[device] = true;
                break;
            case 6: high = (high & ~7UL) | (uint)_random.Next(8); break;
            default: break;
        }
        // (s) Nor may a flipped bit put two devices into one domain.
        ushort domain = new ContextEntry(low, high).DomainId;
        if (Enumerable.Range(0, Layout.Devices).Any(other => other != device && Context(other).DomainId == domain))
        {
            high = good.High;
        }
        if (_random.Next(5) == 0) { ChangeRoot(); }
        if (_lax && !_wild[device] && _random.Next(3) == 0)
        {
            // Nobody is told: the old entry may live on in the context cache, on both sides in the same way as long as
            // its translation type and domain stay.
            (ulong value, string what) = _random.Next(4) switch
            {
                0 => (0UL, "absent"),
                1 => (Layout.Context(device, 2).Low, "three levels, width of four"),
                2 => (Context(device).Low | 2, "silent"),
                _ => (Context(device).Low, "good"),
            };
            _steps.Add(new Step.Store(at, value, $"context entry of device {device}, {what}, no invalidation"));
            return;
        }
        _steps.Add(new Step.Group($"change the context of device {device}",
        [
            new Step.Store(at + 8, high, "high"),
            new Step.Store(at, low, "low"),
            .. DropAll(),
        ]));
    }

    private void ChangeRoot()
    {
        ulong word = _random.Next(4) switch
        {
            0 => 0UL,
            1 => RootEntry.For(new(Layout.ContextTable)).Low ^ (1UL << _random.Next(64)),
            2 => RootEntry.For(new(Layout.Nowhere)).Low,
            _ => RootEntry.For(new(_root == Layout.RootTable ? Layout.ContextTable : Layout.OtherContextTable)).Low,
        };
        _steps.Add(new Step.Group("change the root entry",
            [new Step.Store(Layout.RootEntryAt(_root), word, "low"), .. DropAll()]));
    }

    private Step[] DropAll()
    {
        if (!_queued)
        {
            return
            [
                Wide(VtdRegister.ContextCommand, VtdContextCommand.For(InvalidationGranularity.Global).Word,
                    "drop all contexts"),
                Wide(0xF8, VtdIotlbCommand.For(InvalidationGranularity.Global).Word, "drop all pages"),
            ];
        }
        Push(InvalidationDescriptor.ForContextCache(InvalidationGranularity.Global),
            InvalidationDescriptor.ForIotlb(InvalidationGranularity.Global));
        Step last = _steps[^1];
        _steps.RemoveAt(_steps.Count - 1);
        return [last];
    }

    private void Invalidate()
    {
        int device = _random.Next(Layout.Devices);
        if (_random.Next(3) == 0) { InvalidateContexts(device, Granularity()); }
        else
        {
            ulong address = Layout.Bases[_random.Next(Layout.Bases.Length)]
                + (ulong)_random.Next(Layout.DataPages) * 0x1000;
            InvalidatePages(device, Granularity(), address, _random.Next(20));
        }
    }

    private InvalidationGranularity Granularity() => (InvalidationGranularity)_random.Next(1, 4);

    private InvalidationGranularity AtLeastDomain() => (InvalidationGranularity)_random.Next(1, 3);

    private void InvalidatePages(int device, InvalidationGranularity granularity, ulong address, int mask)
    {
        ushort domain = Context(device).DomainId;
        mask = Math.Min(mask, 18);
        if (_queued)
        {
            Push(InvalidationDescriptor.ForIotlb(granularity, domain, new(address), mask, _random.Next(2) == 0));
        }
        else
        {
            Add(0xF0, (address & ~0xFFFUL) | (uint)mask, "IVA");
            Add(0xF8, VtdIotlbCommand.For(granularity, domain).Word, $"drop pages: {granularity}");
        }
    }

    private void InvalidateContexts(int device, InvalidationGranularity granularity)
    {
        ushort domain = Context(device).DomainId;
        int mask = _random.Next(4);
        // (f) QEMU drops more for a domain, which shows when entries are stale.
        if (_lax && granularity == InvalidationGranularity.Domain) { granularity = InvalidationGranularity.Selective; }
        // (m) Pages are dropped as well, as the specification wants it: QEMU looks for a page before it looks for a
        // context.
        if (_queued)
        {
            Push(
                InvalidationDescriptor.ForContextCache(granularity, domain, Layout.Requester(device), mask),
                InvalidationDescriptor.ForIotlb(InvalidationGranularity.Global));
            return;
        }
        _steps.Add(new Step.Group("drop contexts, and all pages",
        [
            Wide(VtdRegister.ContextCommand,
                VtdContextCommand.For(granularity, domain, Layout.Requester(device), mask).Word,
                $"contexts: {granularity}"),
            Wide(0xF8, VtdIotlbCommand.For(InvalidationGranularity.Global).Word, "all pages"),
        ]));
    }

    private void Push(params InvalidationDescriptor[] descriptors)
    {
        InvalidationDescriptor wait = InvalidationDescriptor.ForWait(
            new(Layout.Status + (ulong)_random.Next(16) * 4), (uint)_random.Next(), _random.Next(3) == 0);
        Enqueue(_random.Next(5) == 0 ? descriptors : [.. descriptors, wait]);
    }

    private void Enqueue(InvalidationDescriptor[] descriptors)
    {
        _steps.Add(new Step.Queue(_tail, descriptors));
        _tail = (_tail + (uint)descriptors.Length * InvalidationDescriptor.Size) % (uint)Layout.QueueBytes;
    }

    private void Malformed()
    {
        InvalidationDescriptor good = _random.Next(3) switch
        {
            0 => InvalidationDescriptor.ForContextCache(Granularity(), 1, Layout.Requester(0)),
            1 => InvalidationDescriptor.ForIotlb(Granularity(), 1, new(Layout.FirstData), 1),
            _ => InvalidationDescriptor.ForWait(new(Layout.Status + 0x80), 0x1234),
        };
        int bit = _random.Next(128);
        // (c) A wait that neither stores nor interrupts is a fence by the specification, an error in QEMU.
        if (good.Type == InvalidationType.Wait && bit == 5) { bit = 8; }
        InvalidationDescriptor bad = bit < 64 ? new(good.Low ^ (1UL << bit), good.High)
            : new(good.Low, good.High ^ (1UL << (bit - 64)));
        // (u) A response to a page request. (f), (m) Contexts invalidated in good form, but not their pages.
        if ((uint)bad.Type == 9 || bad is { Type: InvalidationType.ContextCache, IsMalformed: false })
        {
            bad = new(good.Low ^ 0x100, good.High);
        }
        if (_random.Next(8) == 0)
        {
            Add(VtdRegister.InvalidationQueueTail, Layout.QueueBytes << _random.Next(7), "tail beyond the queue");
            _steps.Add(new Step.Group("mend the queue",
            [
                Wide(VtdRegister.InvalidationQueueTail, _tail, "a possible tail"),
                Narrow(VtdRegister.FaultStatus, VtdFaultStatus.WriteOneToClear, "clear the queue error"),
                Wide(VtdRegister.InvalidationQueueTail, _tail, "tail again"),
            ]));
            return;
        }
        uint before = _tail;
        Enqueue([bad, InvalidationDescriptor.ForWait(new(Layout.Status + 0x84), (uint)_random.Next())]);
        // Whatever stopped there is replaced, then the queue goes on.
        InvalidationDescriptor wait = InvalidationDescriptor.ForWait(new(Layout.Status + 0x88), (uint)_random.Next());
        _steps.Add(new Step.Group("mend the queue",
        [
            new Step.Store(Layout.Queue + before, wait.Low, "a wait instead"),
            new Step.Store(Layout.Queue + before + 8, wait.High, "a wait instead"),
            Narrow(VtdRegister.FaultStatus, VtdFaultStatus.WriteOneToClear, "clear the queue error"),
            Wide(VtdRegister.InvalidationQueueTail, _tail, "tail again"),
        ]));
    }

    /// <summary>Leaves nothing in the queue, ending with a wait, so that it can be disabled.</summary>
    private void Drain()
    {
        if (_queued) { Enqueue([InvalidationDescriptor.ForWait(new(Layout.Status), 1)]); }
    }

    private void ClearFaults()
    {
        if (_random.Next(2) == 0) { Add(0x22C, 1u << 31, "clear the fault record", wide: false); }
        else { Add(0x228, FaultRecord.ValidBit, "clear the fault record"); }
        Add(VtdRegister.FaultStatus, VtdFaultStatus.WriteOneToClear, "clear the fault status", wide: false);
    }

    private void Poke()
    {
        uint word = (uint)_random.NextInt64(1L << 32);
        switch (_random.Next(12))
        {
            case 0: Add(VtdRegister.FaultEventControl, word, "fault event control", wide: false); break;
            case 1: Add(VtdRegister.FaultEventData, (word & 0xFF) | 0x20, "fault event data", wide: false); break;
            case 2: Add(VtdRegister.FaultEventAddress, 0xFEE0_0000 | (word & 0xFFFFF), "fault event address",
                wide: false); break;
            case 3: Add(VtdRegister.InvalidationEventControl, word, "completion event control", wide: false); break;
            case 4: Add(VtdRegister.InvalidationEventData, (word & 0xFF) | 0x20, "completion event data",
                wide: false); break;
            case 5: Add(VtdRegister.InvalidationCompletionStatus, word, "completion status", wide: false); break;
            case 6: Add(VtdRegister.Capability, word, "capabilities"); break;
            case 7: Add(VtdRegister.GlobalStatus, word, "global status", wide: false); break;
            case 8: Add(VtdRegister.InvalidationQueueHead, word, "queue head"); break;
            case 9: Add(0xF0, word | ((ulong)word << 32), "IVA"); break;
            case 10: Add(0x220, word, "fault record, low"); break;
            default: Add(VtdRegister.FaultEventUpperAddress, word, "fault event upper address", wide: false); break;
        }
    }

    private void ToggleTranslation()
    {
        _translating = !_translating;
        // (k) What the caches keep across the two moments is the unit's choice, so they are emptied.
        _steps.Add(new Step.Group(_translating ? "translation on" : "translation off",
        [
            Narrow(VtdRegister.GlobalCommand, (_translating ? VtdGlobal.TranslationEnable : 0) | Queue, "command"),
            .. DropAll(),
        ]));
    }

    private void SetRoot()
    {
        _root = _root == Layout.RootTable ? Layout.OtherRootTable : Layout.RootTable;
        Add(VtdRegister.RootTableAddress, _root, "root table");
        Command((_translating ? VtdGlobal.TranslationEnable : 0) | Queue | VtdGlobal.SetRootTable, "set root table");
    }

    private void Command(uint value, string what) => Add(VtdRegister.GlobalCommand, value, what, wide: false);

    private void Add(uint offset, ulong value, string what, bool wide = true)
    {
        if (!wide || _random.Next(4) != 0)
        {
            _steps.Add(new Step.Register(offset, value, wide, what));
            return;
        }
        _steps.Add(Narrow(offset, (uint)value, $"{what}, low half"));
        _steps.Add(Narrow(offset + 4, value >> 32, $"{what}, high half"));
    }

    private int Pick(params ReadOnlySpan<int> values) => values[_random.Next(values.Length)];

    private static Step.Register Wide(uint offset, ulong value, string what) => new(offset, value, true, what);

    private static Step.Register Narrow(uint offset, ulong value, string what) => new(offset, value, false, what);
}
