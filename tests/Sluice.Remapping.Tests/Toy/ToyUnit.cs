using Sluice.Formats.PageTables;
using Sluice.Remapping.Units;

namespace Sluice.Remapping.Tests.Toy;

/// <summary>
/// The smallest unit that the frame can drive, silicon and driver in one: a flat table over one aperture that all
/// sources share, sources of 8 bits, no queue, no fault records, no interrupt window. Translations stay cached until
/// they are invalidated.
/// </summary>
internal sealed class ToyUnit : IUnitDriver, ISourceTable
{
    public static readonly LogicalRange Aperture = LogicalRange.FromLength(new(0x4000_0000), Entries << 12);
    private const ulong Entries = 1024;
    private const int AddressBits = 31;
    private readonly UnitHost _host;
    private readonly UnitLife _life;
    private readonly SourceGate _gate;
    private readonly IDomainTables?[] _doors = new IDomainTables?[256];
    private readonly Dictionary<LogicalAddress, PhysicalAddress> _cache = [];
    private long _pages;
    private long _domains;

    public ToyUnit(UnitHost host, ToyDescription description)
    {
        (_host, Description) = (host, description);
        _life = new(this, () => _host.OnDeath(this));
        _gate = new(this, _life, this);
        Traits = new(
            Gart.Name, description.GranuleLog2, 1UL << description.GranuleLog2, UnitTraits.Width(AddressBits),
            AddressBits, Domains: 2)
        {
            Isolation = Isolation.Aperture,
            Holes =
            [
                new(default, new(Aperture.First.Value - 1)),
                new(new(Aperture.Last.Value + 1), new((1UL << AddressBits) - 1)),
            ],
        };
    }

    /// <summary>Whether it takes no command any more.</summary>
    public bool IsDeaf { get; set; }

    public UnitDescription Description { get; }

    public UnitTraits Traits { get; }

    public bool IsDead => _life.IsDead;

    public UnitStatistics Statistics => new() { PageInvalidations = _pages, DomainInvalidations = _domains };

    public SourceId[] Quarantined => _gate.Quarantined;

    /// <summary>The silicon: where a DMA of a source goes; null when it is refused.</summary>
    public PhysicalAddress? Reach(SourceId source, LogicalAddress address)
    {
        if (_doors[Door(source)] is not { } tables) { return null; }
        LogicalAddress page = address.AlignDown(12);
        if (!_cache.TryGetValue(page, out PhysicalAddress found))
        {
            if (!tables.TryFind(page, out found)) { return null; }
            _cache[page] = found;
        }
        return found + (address - page);
    }

    public void Start() => BlockAll();

    public void Stop() => BlockAll();

    public void OnTimer()
    {
    }

    public IDomainTables? TryCreateTables(TableShape shape)
    {
        PageTableRoot root = new(default, 0, _host.PhysicalAddressBits) { Base = Aperture.First, Entries = Entries };
        IFrameAllocator frames = _host.Platform.Frames;
        return DomainTables<Gart>.TryAllocateTop(frames, root, out PhysicalAddress top)
            ? new DomainTables<Gart>(_host.Platform.Memory, frames, root with { Table = top })
            : null;
    }

    public void Attach(SourceId source, AddressSpace space) => _gate.Attach(source, space);

    public bool Switch(SourceId source, AddressSpace space) => _gate.Switch(source, space);

    public void Detach(SourceId source) => _gate.Detach(source);

    public bool Invalidate(ushort domain, LogicalRange range, bool onlyLeaves)
    {
        _pages++;
        return TryDo(() =>
        {
            foreach (LogicalAddress page in _cache.Keys.Where(range.Contains).ToArray()) { _cache.Remove(page); }
        });
    }

    public bool InvalidateDomain(ushort domain)
    {
        _domains++;
        return TryDo(_cache.Clear);
    }

    public bool Announce(ushort domain, LogicalRange range) => true;

    public bool TryDrainFaults() => true;

    public bool EndQuarantine(SourceId source) => _gate.EndQuarantine(source);

    public void ThrowIfQuarantined(SourceId source) => _gate.ThrowIfQuarantined(source);

    bool ISourceTable.TryPrepare(SourceId source) => true;

    void ISourceTable.Publish(SourceId source, AddressSpace space, bool silenced) =>
        _doors[Door(source)] = space.Tables;

    bool ISourceTable.TryReplace(SourceId source, AddressSpace space, bool silenced)
    {
        _doors[Door(source)] = space.Tables;
        return true;
    }

    void ISourceTable.Clear(SourceId source, bool silenced) => _doors[Door(source)] = null;

    void ISourceTable.Silence(SourceId source, bool silenced)
    {
    }

    void ISourceTable.Forget(SourceId source, ushort domain) => TryDo(_cache.Clear);

    bool ISourceTable.Announce(SourceId source) => true;

    public void BlockAll() => Array.Clear(_doors);

    public override string ToString() => Description.ToString();

    private static int Door(SourceId source) => (int)(source.Number & 0xFF);

    private bool TryDo(Action command)
    {
        if (!IsDeaf && !_life.IsDead)
        {
            command();
            return true;
        }
        _life.Die();
        return false;
    }
}

/// <summary>A toy unit in front of everything that no other unit names.</summary>
internal sealed record ToyDescription(int GranuleLog2 = 12) : UnitDescription
{
    public override bool Names(SourceId source) => false;

    public override bool TakesRest(SourceId source) => true;

    public override IUnitDriver CreateDriver(UnitHost host) => new ToyUnit(host, this);

    public override string ToString() => "toy unit";
}
