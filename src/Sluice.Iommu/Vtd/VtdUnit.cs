using System.Diagnostics;
using Sluice.Formats.Vtd;

namespace Sluice.Iommu;

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
    private readonly Iotlb _caches;
    private readonly DrainBarrier _drain;
    private readonly FaultLog _faults;
    private readonly PhysicalMemory _memory;
    private readonly ContextReader _contextReader;
    private readonly VtdRegisterFile _registers;
    private ulong _root;

    /// <summary>A unit as it comes out of reset.</summary>
    /// <param name="options">What it is built with.</param>
    /// <param name="memory">Where its tables and queues lie.</param>
    /// <param name="interrupts">Where its own events go.</param>
    /// <exception cref="ArgumentException">The options describe no possible unit.</exception>
    public VtdUnit(VtdOptions options, PhysicalMemory memory, IInterruptSink interrupts)
    {
        ArgumentNullException.ThrowIfNull(options);
        ArgumentNullException.ThrowIfNull(interrupts);
        options.Validate();
        Options = options;
        _memory = memory;
        _caches = new(options);
        _contexts = _caches.Contexts;
        _pages4K = _caches.Pages4K;
        _drain = new(options.DrainLimit);
        _faults = new(options, interrupts);
        _contextReader = new(options, memory);
        _registers = new(this, new(options, memory, _caches, _drain, _faults, interrupts), _faults);
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

    /// <summary>What it has done. Any thread.</summary>
    public VtdStatistics Statistics
    {
        get
        {
            VtdStatistics total = _registers.AddTo(_faults.AddTo(default)) with
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

    /// <summary>
    /// Back to the state out of reset; the counters stay. The DMA in flight is drained first, under the tables that it
    /// began with; what begins later passes unchanged.
    /// </summary>
    /// <exception cref="InvalidOperationException">
    /// The caller is inside a DMA itself, or one did not end. Nothing was reset then.
    /// </exception>
    public void Reset() => _registers.Reset();

    /// <summary>The root table and whether translation is on. Changed under the register lock.</summary>
    internal RootPointer Root
    {
        get => new(Volatile.Read(ref _root));
        set => Volatile.Write(ref _root, value.Word);
    }

    /// <summary>What the unit keeps between translations.</summary>
    internal Iotlb Caches => _caches;

    /// <inheritdoc/>
    public bool TryTranslate(
        TranslationPort port, RequesterId requester, LogicalAddress address, DmaAccess access, out PhysicalRun run)
    {
        ArgumentNullException.ThrowIfNull(port);
        Debug.Assert(port.IsInFlight, "enter the port before translating");
        Debug.Assert(access is not DmaAccess.None, "an access reads or writes");

        // The common case, in full: translation on, context cached and translating, 4 KiB page cached with the right.
        // Pages in the interrupt window are never cached and so never found here.
        if (Root.IsEnabled
            && address.Value >> MaximumAddressBits == 0
            && _contexts.TryFind(CachedContext.KeyOf(requester), out ulong word)
            && _pages4K.TryFind(Iotlb.KeyOf(new CachedContext(word), address, level: 0), out ulong page)
            && ((ulong)access & ~page) == 0)
        {
            port.CountHit();
            ulong offset = address.OffsetIn(PageLog2);
            run = new(new((page & ~0xFFFUL) | offset), (1UL << PageLog2) - offset);
            return true;
        }
        return TranslateFully(port, requester, address, access, out run);
    }

    /// <inheritdoc/>
    public bool TryRemapInterrupt(
        TranslationPort port, RequesterId requester, MsiMessage request, out MsiMessage delivered)
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
        return Refuse(port, requester, request.Address, DmaAccess.Write, Reason, faultsDisabled: false);
    }
}
