using System.Diagnostics.CodeAnalysis;
using System.Numerics;

namespace Sluice.Machines;

/// <summary>
/// A PCI function: configuration space, BARs, interrupt pin, MSI and MSI-X here; what it does in the model that derives
/// from it. The constructor of the model declares everything, <see cref="Machine.Plug{T}(T, PciAddress)"/> brings it to
/// life.
/// </summary>
/// <remarks>
/// Two kinds of thread enter a model: processors, through <see cref="ReadBar"/> and <see cref="WriteBar"/>, several at
/// once; and the device's own, through <see cref="Step"/>, one at a time. The model guards what they share.
/// </remarks>
public abstract partial class PciDevice
{
    private readonly Lock _configWritten = new();
    private readonly PciBar?[] _bars = new PciBar?[PciConfig.BarCount];
    private PowerCapability? _power;
    private MsiCapability? _msi;
    private MsixCapability? _msix;
    private DmaPort? _dma;
    private Machine? _machine;
    private Agent? _agent;
    private PciBridge? _bridge;
    private volatile bool _busMaster;
    private volatile bool _frozen;

    /// <summary>A function that says it is <paramref name="identity"/>.</summary>
    /// <param name="name">As reports and threads show it: <c>nvme</c>.</param>
    /// <param name="identity">Its ids.</param>
    /// <param name="express">True: an integrated PCI Express endpoint with 4 KiB of configuration space.</param>
    protected PciDevice(string name, PciIdentity identity, bool express = true)
    {
        Name = name;
        Config = new(in identity, express) { Written = OnConfigWritten };
        if (express) { ExpressCapability.Add(Config); }
    }

    /// <summary>The model's name.</summary>
    public string Name { get; }

    /// <summary>Its configuration space.</summary>
    public PciConfigSpace Config { get; }

    /// <summary>Where it is plugged in.</summary>
    public PciAddress Address { get; private set; }

    /// <summary>
    /// Its way to memory. Set when plugged in; for the device's own thread (<see cref="Step"/>) only.
    /// </summary>
    protected DmaPort Dma => _dma ?? throw new InvalidOperationException($"{Name} is not plugged in");

    /// <summary>The port's counters, and for tests the port itself.</summary>
    public DmaPort Port => Dma;

    /// <summary>The machine's time. Set when plugged in.</summary>
    protected IPlatformClock Clock => Machine.Clock;

    /// <summary>Whether the device has stopped answering (<see cref="Freeze"/>).</summary>
    public bool IsFrozen => _frozen;

    /// <summary>
    /// A hostile device: its DMA ignores the bus master enable, which is the device's own bit. Off by default; a device
    /// told to stop then stops.
    /// </summary>
    public bool IgnoresBusMasterEnable { get; init; }

    /// <summary>The machine's memory, as a processor sees it. Set when plugged in.</summary>
    private protected PhysicalMemory SystemMemory => Machine.Memory;

    internal bool MayMaster => (_busMaster || IgnoresBusMasterEnable) && (_bridge?.MayMaster ?? true);

    internal ReadOnlySpan<PciBar?> Bars => _bars;

    private Machine Machine => _machine ?? throw new InvalidOperationException($"{Name} is not plugged in");

    /// <summary>
    /// A processor reads a register: exactly this width, offset inside the BAR and aligned. On the processor's thread.
    /// </summary>
    public abstract ulong ReadBar(int bar, ulong offset, int size);

    /// <summary>
    /// A processor writes a register: exactly this width, offset inside the BAR and aligned. On the processor's thread.
    /// </summary>
    public abstract void WriteBar(int bar, ulong offset, int size, ulong value);

    /// <summary>
    /// One bounded piece of the device's own work; false when there is nothing to do. Never runs twice at once.
    /// </summary>
    [SuppressMessage("Naming", "CA1716", Justification = "What schedulers and simulators call it.")]
    public abstract bool Step();

    /// <summary>
    /// Function level reset or system reset, on the thread that asked for it; the device's own thread may be in
    /// <see cref="Step"/>. Configuration, MSI and MSI-X are reset already.
    /// </summary>
    public virtual void Reset()
    {
    }

    /// <summary>
    /// The device stops answering: its thread does nothing and its registers keep what was written to them unseen.
    /// </summary>
    public void Freeze() => _frozen = true;

    /// <summary>Ends <see cref="Freeze"/>.</summary>
    public void Thaw()
    {
        _frozen = false;
        Wake();
    }

    /// <summary>Declares a memory BAR. A 64-bit one takes the next index too.</summary>
    /// <param name="index">0 to 5.</param>
    /// <param name="size">A power of two of at least 16.</param>
    /// <param name="is64Bit">Whether it may lie above 4 GiB.</param>
    /// <param name="prefetchable">Whether reads have no side effects.</param>
    protected void AddBar(int index, ulong size, bool is64Bit = false, bool prefetchable = false)
    {
        int last = PciConfig.BarCount - (is64Bit ? 2 : 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)index, (uint)last, nameof(index));
        if (size < 16 || !BitOperations.IsPow2(size) || (!is64Bit && size > 0x8000_0000))
        {
            throw new ArgumentOutOfRangeException(nameof(size), $"a BAR of 0x{size:X} bytes does not exist");
        }
        _bars[index] = new(index, size, is64Bit, prefetchable);
        _bars[index]!.Describe(Config);
    }

    /// <summary>Declares power management: D0 and D3hot, in which the function neither answers nor sends.</summary>
    protected void AddPowerManagement() => _power = new(Config);

    /// <summary>Declares MSI with one vector and a 64-bit address.</summary>
    protected void AddMsi() => _msi = new(Config);

    /// <summary>
    /// Declares MSI-X; table and pending bits lie in a BAR that is declared already and are served here, not by the
    /// model.
    /// </summary>
    protected void AddMsix(int vectors, int bar, uint tableOffset, uint pendingOffset) =>
        _msix = new(Config, vectors, bar, tableOffset, pendingOffset);

    /// <summary>
    /// There is work for <see cref="Step"/>. From any thread; what was written before is visible to it.
    /// </summary>
    protected void Wake() => _agent?.Wake();

    /// <summary>Wakes the device once, <paramref name="nanoseconds"/> of platform time from now.</summary>
    protected void WakeAfter(long nanoseconds) => Machine.Execution.After(Name, nanoseconds, Wake);

    /// <summary>Whether software has enabled MSI.</summary>
    protected bool IsMsiEnabled => _msi?.IsEnabled ?? false;

    /// <summary>Whether software has enabled MSI-X.</summary>
    protected bool IsMsixEnabled => _msix?.IsEnabled ?? false;

    /// <summary>Sends the MSI message if MSI is enabled. From any thread.</summary>
    protected void RaiseMsi() => _msi?.Raise();

    /// <summary>
    /// Sends a vector's message; while the function or the vector is masked its pending bit is set instead, and
    /// unmasking sends it. Nothing happens while MSI-X is disabled. From any thread.
    /// </summary>
    protected void RaiseMsix(int vector) => _msix?.Raise(vector);

    /// <summary>
    /// The requester id that the root complex sees for what the function sends under <paramref name="own"/>: a
    /// conventional bus carries none, so the nearest bridge to the root decides, whatever the function claims.
    /// </summary>
    internal RequesterId OnTheBus(RequesterId own) => _bridge is null ? own : _bridge.OnTheBus(_bridge.Requester);

    internal void PlugInto(Machine machine, RootComplex root, PciAddress address, PciBridge? bridge)
    {
        if (_machine is not null) { throw new MachineException($"{Name} is plugged in already, at {Address}"); }
        (_machine, Address, _bridge) = (machine, address, bridge);
        Config.KeepAsReset();
        _dma = root.Connect(this, $"{Name} {address}");
        // Messages are sent by any thread, so they have a port of their own, under the capability's lock.
        _msi?.Connect(root.Connect(this, $"{Name} {address} msi"));
        _msix?.Connect(root.Connect(this, $"{Name} {address} msi-x"));
        ConnectPin(machine.Wires);
        _agent = machine.Execution.AddAgent($"{Name} {address}", () => !_frozen && Step());
    }

    internal ulong ReadRegister(int bar, ulong offset, int size)
    {
        if (_msix is not null && _msix.Claims(bar, offset)) { return _msix.Read(offset, size); }
        return ReadBar(bar, offset, size);
    }

    internal void WriteRegister(int bar, ulong offset, int size, ulong value)
    {
        if (_msix is not null && _msix.Claims(bar, offset))
        {
            _msix.Write(offset, size, value);
            return;
        }
        WriteBar(bar, offset, size, value);
    }

    /// <summary>What a function level reset and a system reset do; on the thread that asked.</summary>
    internal void ResetFunction()
    {
        _msix?.Reset();
        Config.ResetWritable();
        SetPin(false);
        Reset();
    }

    /// <summary>Returns once the step that the device's own thread may be in is over.</summary>
    internal void WaitForStep() => _agent?.WaitForStep();

    /// <summary>Software has written the configuration space; BARs and capabilities have followed already.</summary>
    private protected virtual void Configured()
    {
    }

    private void OnConfigWritten()
    {
        // One at a time, each reading the bytes as they are now: the last to finish has seen the last write.
        lock (_configWritten) { ApplyConfig(); }
    }

    private void ApplyConfig()
    {
        uint command = Config.Read(PciConfig.Command, 2);
        _power?.Update();
        bool isAwake = _power is not { IsAsleep: true };
        _busMaster = isAwake && (command & PciConfig.CommandBusMaster) != 0;
        foreach (PciBar? bar in Bars) { bar?.Update(Config, isAwake && (command & PciConfig.CommandMemory) != 0); }
        _msi?.Update();
        _msix?.Update();
        ApplyPin();
        Configured();
        if (ExpressCapability.TakeReset(Config)) { ResetFunction(); }
    }
}
