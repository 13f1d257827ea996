using System.Buffers.Binary;
using System.Text;

namespace Sluice.Drivers.Nvme;

/// <summary>
/// An NVMe controller under this driver: brought up, watched, reset when it hangs, and shut down at
/// <see cref="Dispose"/>.
/// </summary>
/// <remarks>
/// Safe from any thread. A command that takes longer than <see cref="NvmeOptions.CommandTimeout"/> is aborted; when
/// that does not help, the controller is reset, and everything in flight fails with
/// <see cref="NvmeFailure.ControllerReset"/>; when it does not even stop, it is declared dead: everything fails, and
/// the memory of what was in flight is never used again.
/// </remarks>
public sealed partial class NvmeController : IDisposable
{
    private readonly DeviceResources _resources;
    private readonly NvmeOptions _options;
    private readonly NvmeRegisters _registers;
    private readonly NvmeAdminQueue _admin;
    private readonly Lock _recovering = new();
    private readonly List<IDisposable> _vectors = [];
    private NvmeQueuePair[] _queues = [];
    private NvmeNamespace[] _namespaces = [];
    private IDisposable? _watchdog;
    private CancellationTokenRegistration _blocked;
    private bool _isDead;
    private bool _isDisposed;

    private NvmeController(DeviceResources resources, NvmeOptions options)
    {
        (_resources, _options) = (resources, options);
        _registers = new(resources.Registers);
        if (_registers.IsGone) { throw new NvmeException(NvmeFailure.ControllerDead, "no NVMe controller answers"); }
        if (!_registers.SupportsNvmCommands || !_registers.SupportsSmallPages)
        {
            throw new NvmeException(NvmeFailure.Unsupported, "the controller lacks the NVM command set or 4 KiB pages");
        }
        if (_registers.MaxQueueEntries < 2)
        {
            throw new NvmeException(NvmeFailure.Unsupported, "the controller's queues have one entry: CAP.MQES is 0");
        }
        if (!_registers.HasDoorbells(0))
        {
            throw new NvmeException(NvmeFailure.Unsupported,
                "the doorbells of the admin queue lie outside the controller's registers");
        }
        _admin = new(_registers, resources.Adapter, resources.Platform.Clock);
    }

    /// <summary>The controller's serial number.</summary>
    public string SerialNumber { get; private set; } = "";

    /// <summary>The controller's model name.</summary>
    public string ModelNumber { get; private set; } = "";

    /// <summary>The specification version it follows: 0x0001_0400 is 1.4.</summary>
    public uint Version { get; private set; }

    /// <summary>The longest transfer that one command does, in bytes. Longer requests are split.</summary>
    public uint MaxTransferBytes { get; private set; }

    /// <summary>Commands in flight at most, over all queues.</summary>
    public int QueueDepth { get; private set; }

    /// <summary>Its active namespaces, by id.</summary>
    public IReadOnlyList<NvmeNamespace> Namespaces => _namespaces;

    /// <summary>Whether the controller was given up.</summary>
    public bool IsDead => Volatile.Read(ref _isDead);

    /// <summary>Resets since the start.</summary>
    public int Resets { get; private set; }

    /// <summary>Commands that took too long and were aborted, successfully or not.</summary>
    public int Aborts { get; private set; }

    /// <summary>Asynchronous events that the controller reported: health, invalid doorbell writes.</summary>
    public long AsyncEvents => _admin.Events;

    /// <summary>
    /// Completions that belonged to no command in flight: each is a fault of the controller, and was ignored.
    /// </summary>
    public long UnexpectedCompletions => _queues.Sum(q => q.UnexpectedCompletions);

    /// <summary>Commands that the controller has now, those of cancelled waits included.</summary>
    public int InFlight => _queues.Sum(q => q.InFlight);

    internal IPlatform Platform => _resources.Platform;

    /// <summary>
    /// Brings a controller up: reset, admin queue, identify, I/O queues. Waits by polling, at most as long as the
    /// controller says that it may need.
    /// </summary>
    /// <param name="resources">The device. The adapter is not disposed here.</param>
    /// <param name="options">Null for the usual.</param>
    /// <exception cref="NvmeException">It does not come up, or is not one that this driver can drive.</exception>
    public static NvmeController Start(DeviceResources resources, NvmeOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(resources);
        options ??= new();
        options.Validate();
        NvmeController controller = new(resources, options);
        try
        {
            controller.BringUp();
            return controller;
        }
        catch
        {
            controller.Dispose();
            throw;
        }
    }

    /// <summary>As <see cref="Start"/>, on a thread of the pool.</summary>
    public static Task<NvmeController> StartAsync(
        DeviceResources resources, NvmeOptions? options = null, CancellationToken cancellationToken = default) =>
        Task.Run(() => Start(resources, options), cancellationToken);

    /// <summary>
    /// Takes what completed and submits what waits. Needed only without interrupts; harmless with them.
    /// </summary>
    public void Poll()
    {
        foreach (NvmeQueuePair queue in _queues) { queue.Poll(); }
    }

    /// <summary>
    /// Waits by polling, for callers without an asynchronous caller of their own; on a stepped machine it is what steps
    /// it. Bounded: the watchdog ends every command.
    /// </summary>
    public void Wait(in ValueTask request)
    {
        while (!request.IsCompleted)
        {
            Poll();
            // A pause is only for when there was nothing to take: it lasts longer than taking a completion.
            if (request.IsCompleted) { break; }
            Platform.Clock.Relax();
        }
        request.GetAwaiter().GetResult();
    }

    internal NvmeQueuePair Queue
    {
        get
        {
            NvmeQueuePair[] queues = _queues;
            return queues.Length == 1 ? queues[0] : queues[Environment.CurrentManagedThreadId % queues.Length];
        }
    }

    private void BringUp()
    {
        if (!TryStop()) { throw Dead("does not stop for its first reset"); }
        EnableAdmin();
        Version = _registers.Version;
        byte[] page = _admin.ExecuteIn(
            new(NvmeCommand.Identify, 0) { Dword10 = 1 }, _options.AdminTimeout, "identify controller");
        SerialNumber = Text(page.AsSpan(4, 20));
        ModelNumber = Text(page.AsSpan(24, 40));
        int maxTransferLog2 = page[77] == 0 ? 31 : Math.Min(12 + page[77], 31);
        MaxTransferBytes = Math.Min(_options.MaxTransferBytes, 1u << maxTransferLog2);
        int depth = (int)Math.Min((uint)_options.QueueDepth, _registers.MaxQueueEntries - 1);
        CreateQueues(new(depth, MaxTransferBytes, WatchdogTurns));
        QueueDepth = depth * _queues.Length;
        _namespaces = [.. FindNamespaces()];
        _admin.RequestEvent();
        foreach (NvmeQueuePair queue in _queues) { queue.Resume(); }
        _watchdog = Platform.Clock.StartTimer(
            "nvme watchdog", Math.Max(_options.CommandTimeout / WatchdogTurns, 1), Watch);
        _blocked = _resources.Adapter.DeviceBlocked.UnsafeRegister(
            static controller => ((NvmeController)controller!).OnDeviceBlocked(), this);
    }

    private void EnableAdmin()
    {
        _admin.Prepare();
        _registers.Enable();
        for (Deadline limit = Deadline.In(Platform.Clock, _registers.ReadyTimeout); ; limit.Relax())
        {
            uint status = _registers.Status;
            if (NvmeRegisters.IsFatal(status)) { throw Dead("fails while it is enabled"); }
            if (NvmeRegisters.IsReady(status)) { return; }
            if (limit.HasPassed) { throw Dead("does not become ready"); }
        }
    }

    private void CreateQueues(in NvmeLimits limits)
    {
        int count = SetNumberOfQueues((uint)_options.QueuePairs);
        if (!_registers.HasDoorbells(count))
        {
            throw new NvmeException(NvmeFailure.Unsupported,
                $"the doorbells of {count} queue pairs lie outside the controller's registers");
        }
        var queues = new NvmeQueuePair[count];
        for (int i = 0; i < count; i++)
        {
            NvmeQueuePair queue = queues[i] = new(i + 1, _registers, _resources.Adapter, limits);
            Volatile.Write(ref _queues, queues[..(i + 1)]);
            IDisposable? vector = _options.UseInterrupts ? _resources.Interrupts?.Invoke(queue.Id, queue.Drain) : null;
            if (vector is not null) { _vectors.Add(vector); }
            queue.HasInterrupt = vector is not null;
            CreateQueue(queue);
        }
    }

    /// <summary>Asks for so many queue pairs; gives how many there may be, at most that.</summary>
    private int SetNumberOfQueues(uint wanted)
    {
        const uint NumberOfQueues = 0x07;
        uint fromZero = wanted - 1;
        uint granted = _admin.Execute(
            new(NvmeCommand.SetFeatures, 0) { Dword10 = NumberOfQueues, Dword11 = fromZero | (fromZero << 16) },
            _options.AdminTimeout,
            "set number of queues");
        return (int)Math.Min(fromZero, Math.Min(granted & 0xFFFF, granted >> 16)) + 1;
    }

    private void CreateQueue(NvmeQueuePair queue)
    {
        uint sizeAndId = ((queue.Entries - 1) << 16) | (uint)queue.Id;
        const uint Contiguous = 1, InterruptsEnabled = 2;
        uint interrupt = queue.HasInterrupt ? InterruptsEnabled | ((uint)queue.Id << 16) : 0;
        _admin.Execute(
            new(NvmeCommand.CreateCompletionQueue, 0)
            {
                Prp1 = queue.CompletionAddress, Dword10 = sizeAndId, Dword11 = Contiguous | interrupt,
            },
            _options.AdminTimeout,
            "create completion queue");
        _admin.Execute(
            new(NvmeCommand.CreateSubmissionQueue, 0)
            {
                Prp1 = queue.SubmissionAddress, Dword10 = sizeAndId, Dword11 = Contiguous | ((uint)queue.Id << 16),
            },
            _options.AdminTimeout,
            "create submission queue");
    }

    private List<NvmeNamespace> FindNamespaces()
    {
        byte[] list = _admin.ExecuteIn(
            new(NvmeCommand.Identify, 0) { Dword10 = 2 }, _options.AdminTimeout, "list namespaces");
        List<NvmeNamespace> found = [];
        for (int i = 0; i < list.Length; i += sizeof(uint))
        {
            uint id = BinaryPrimitives.ReadUInt32LittleEndian(list.AsSpan(i));
            if (id == 0) { break; }
            byte[] page = _admin.ExecuteIn(
                new(NvmeCommand.Identify, id), _options.AdminTimeout, $"identify namespace {id}");
            int format = 128 + (4 * (page[26] & 0xF));
            int blockSizeLog2 = page[format + 2];
            bool hasMetadata = (page[format] | page[format + 1]) != 0;
            if (blockSizeLog2 is < 9 or > 12 || hasMetadata) { continue; } // formats this driver does not read
            ulong blocks = BinaryPrimitives.ReadUInt64LittleEndian(page);
            if (blocks > (ulong)long.MaxValue >> blockSizeLog2)
            {
                throw new NvmeException(NvmeFailure.Unsupported,
                    $"namespace {id} claims {blocks} blocks of {1 << blockSizeLog2} bytes: 2^63 bytes or more");
            }
            found.Add(new(this, id, blocks, blockSizeLog2, (page[99] & 1) != 0));
        }
        return found;
    }

    private static NvmeException Dead(string how) => new(NvmeFailure.ControllerDead, $"the NVMe controller {how}");

    private static string Text(ReadOnlySpan<byte> field) => Encoding.ASCII.GetString(field).TrimEnd(' ', '\0');
}
