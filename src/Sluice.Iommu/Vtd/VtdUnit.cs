using System.Diagnostics;
using System.Runtime.CompilerServices;
using Sluice.Formats.Vtd;

namespace Sluice.Iommu.Vtd;

/// <summary>An Intel VT-d remapping unit in legacy mode: registers, caches, invalidation, fault records.</summary>
/// <remarks>
/// Out of reset, translation is off and every DMA passes unchanged. Translations run on any number of threads, one per
/// port, and a translation that hits the caches takes no lock and writes nothing that another port writes. Register
/// accesses are serialised. Scalable mode would begin at the root pointer, interrupt remapping in <see
/// cref="InterruptRemapping"/>; neither is there, and CAP and ECAP say so.
/// </remarks>
public sealed partial class VtdUnit : IRemappingUnit
{
    private readonly SetAssociativeCache _contexts;
    private readonly SetAssociativeCache _pages4K;
    private readonly TranslationCache _caches;
    private readonly DrainBarrier _drain;
    private readonly FaultLog _faults;
    private readonly VtdTables _tables;
    private readonly VtdRegisterFile _registers;
    private ulong _root;

    /// <summary>A unit as it comes out of reset.</summary>
    /// <param name="options">What it is built with.</param>
    /// <param name="memory">
    /// Where its tables and queues lie: a machine's memory, or any that the host has. Only misses and queues read it; a
    /// walk in a machine's makes no call for a word.
    /// </param>
    /// <param name="interrupts">Where its own events go.</param>
    /// <exception cref="ArgumentException">The options describe no possible unit.</exception>
    public VtdUnit(VtdOptions options, IPhysicalMemory memory, IInterruptSink interrupts)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(memory);
        ArgumentNullException.ThrowIfNull(interrupts);
        options.Validate();
        Options = options;
        int largeSetsLog2 = Math.Max(0, options.IotlbSetsLog2 - 2);
        _caches = new(
            options.ContextSetsLog2, options.ContextWays,
            new(PageLog2, options.IotlbSetsLog2, options.IotlbWays),
            new(PageLog2 + 9, largeSetsLog2, options.IotlbWays),
            new(PageLog2 + 18, largeSetsLog2, options.IotlbWays));
        _contexts = _caches.Contexts;
        _pages4K = _caches.Pages(0);
        _drain = new(options.Name, options.DrainLimit);
        _faults = new(options, interrupts);
        _tables = VtdTables.In(memory, options);
        _registers = new(this, new(options, memory, _caches, _drain, _faults, interrupts), _faults);
        Windows = [_registers];
    }

    /// <summary>What it was built with.</summary>
    public VtdOptions Options { get; }

    /// <summary>
    /// Its registers. Accesses of 4 and 8 bytes work on every register and on either half of the wide ones; narrower
    /// reads give the bytes of the register, narrower writes are ignored. A write that invalidates returns when the DMA
    /// in flight is drained.
    /// </summary>
    /// <exception cref="InvalidOperationException">
    /// From a write: a device model wrote it inside its own DMA, or never ended one.
    /// </exception>
    public RegisterWindow Registers => _registers;

    /// <inheritdoc/>
    public string Name => Options.Name;

    /// <inheritdoc/>
    public IReadOnlyList<RegisterWindow> Windows { get; }

    /// <inheritdoc/>
    public UnitCounters Counters
    {
        get
        {
            UnitCounters total = _registers.AddTo(_faults.AddTo(default)) with
            {
                FillsDropped = _caches.FillsDropped, DrainsDelayed = _drain.Delayed, DrainsTimedOut = _drain.TimedOut,
            };
            foreach (TranslationPort port in _drain.Ports)
            {
                total = total with
                {
                    Hits = total.Hits + port.Hits,
                    Misses = total.Misses + port.Misses,
                    Refused = total.Refused + port.Refused,
                };
            }
            return total;
        }
    }

    /// <inheritdoc/>
    public TranslationPort Connect(string name = "") => _drain.Connect(name);

    /// <inheritdoc/>
    public void Reset() => _registers.Reset();

    /// <inheritdoc/>
    public byte[] Save() => _registers.Save();

    /// <inheritdoc/>
    public bool TryRestore(ReadOnlySpan<byte> state) => _registers.TryRestore(state);

    /// <summary>The root table and whether translation is on. Changed under the register lock.</summary>
    internal RootPointer Root
    {
        get => new(Volatile.Read(ref _root));
        set => Volatile.Write(ref _root, value.Word);
    }

    /// <summary>What the unit keeps between translations.</summary>
    internal TranslationCache Caches => _caches;

    /// <inheritdoc/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool TryTranslate(TranslationPort port, in DmaRequest request, out PhysicalRun run) => request.IsPlain
        ? TranslatePlain(port, request.Source, request.Address, request.Access, out run)
        : TranslateOther(port, request, out run);

    // Inlined as well, and the other road takes a copy: who makes the request on the spot keeps it in registers.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private bool TranslatePlain(
        TranslationPort port, SourceId source, LogicalAddress address, DmaAccess access, out PhysicalRun run)
    {
        ArgumentNullException.ThrowIfNull(port);
        Debug.Assert(port.IsInFlight, "enter the port before translating");
        Debug.Assert(access is not DmaAccess.None, "an access reads or writes");

        // The common case, in full: translation on, context cached and translating, 4 KiB page cached with the right.
        // Pages in the interrupt window are never cached and so never found here.
        if (Root.IsEnabled
            && address.Value >> MaximumAddressBits == 0
            && _contexts.TryFind(CachedContext.KeyOf(source), out ulong word)
            && _pages4K.TryFind(KeyOf(new CachedContext(word), address, level: 0), out ulong page)
            && ((ulong)access & ~page) == 0)
        {
            port.CountHit();
            ulong offset = address.OffsetIn(PageLog2);
            run = new(new((page & ~0xFFFUL) | offset), (1UL << PageLog2) - offset);
            return true;
        }
        return TranslateFully(port, source, address, access, out run);
    }

    /// <inheritdoc/>
    public bool TryRemapInterrupt(
        TranslationPort port, SourceId source, MsiMessage request, out MsiMessage delivered)
    {
        ArgumentNullException.ThrowIfNull(port);
        Debug.Assert(port.IsInFlight, "enter the port before sending an interrupt");
        if (InterruptRemapping.IsRequest(request))
        {
            delivered = InterruptRemapping.PassCompatible(request);
            return true;
        }
        delivered = default;
        const VtdFaultReason Reason = VtdFaultReason.OutputInInterruptWindow;
        return Refuse(port, new(source, request.Address, DmaAccess.Write), Reason, faultsDisabled: false);
    }
}
