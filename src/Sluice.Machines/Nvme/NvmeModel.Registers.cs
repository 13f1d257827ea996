namespace Sluice.Machines.Nvme;

// The processor's side: registers and doorbells. Runs on the accessing thread, hence only stores and a wake-up.
public sealed partial class NvmeModel
{
    private readonly Lock _registers = new();
    private ulong _adminSubmissionQueue;
    private ulong _adminCompletionQueue;
    private uint _adminQueueAttributes;
    private uint _configuration;
    private uint _interruptMask;
    private uint _status;
    private uint _doorbellErrors;

    /// <inheritdoc/>
    public override ulong ReadBar(int bar, ulong offset, int size)
    {
        ulong word = (uint)(offset & ~7UL) switch
        {
            _ when bar != 0 || offset >= NvmeRegister.Doorbells => 0,
            NvmeRegister.Capabilities => NvmeRegister.CapabilitiesWord(_options.MaxQueueEntries),
            NvmeRegister.Version => NvmeRegister.Version14 | ((ulong)Volatile.Read(ref _interruptMask) << 32),
            NvmeRegister.InterruptMaskClear =>
                Volatile.Read(ref _interruptMask) | ((ulong)Volatile.Read(ref _configuration) << 32),
            NvmeRegister.Status & ~7u => (ulong)Volatile.Read(ref _status) << 32,
            NvmeRegister.AdminQueueAttributes & ~7u => (ulong)Volatile.Read(ref _adminQueueAttributes) << 32,
            NvmeRegister.AdminSubmissionQueue => Volatile.Read(ref _adminSubmissionQueue),
            NvmeRegister.AdminCompletionQueue => Volatile.Read(ref _adminCompletionQueue),
            _ => 0,
        };
        word >>= 8 * (int)(offset & 7);
        return size == sizeof(ulong) ? word : word & ((1UL << (8 * size)) - 1);
    }

    /// <inheritdoc/>
    public override void WriteBar(int bar, ulong offset, int size, ulong value)
    {
        if (bar != 0 || size < sizeof(uint)) { return; } // narrower writes are not part of the interface
        if (offset >= NvmeRegister.Doorbells)
        {
            if (size == sizeof(uint)) { RingDoorbell((offset - NvmeRegister.Doorbells) >> 2, (uint)value); }
            return;
        }
        WriteRegister((uint)offset, (uint)value);
        if (size == sizeof(ulong)) { WriteRegister((uint)offset + sizeof(uint), (uint)(value >> 32)); }
    }

    private void WriteRegister(uint offset, uint value)
    {
        const ulong QueueAddressMask = ~0xFFFUL;
        lock (_registers)
        {
            switch (offset)
            {
                case NvmeRegister.InterruptMaskSet:
                    Volatile.Write(ref _interruptMask, _interruptMask | value);
                    UpdatePin();
                    break;
                case NvmeRegister.InterruptMaskClear:
                    Volatile.Write(ref _interruptMask, _interruptMask & ~value);
                    UpdatePin();
                    break;
                case NvmeRegister.Configuration:
                    Volatile.Write(ref _configuration, value & NvmeRegister.ConfigurationMask);
                    Wake();
                    break;
                case NvmeRegister.AdminQueueAttributes:
                    Volatile.Write(ref _adminQueueAttributes, value & 0x0FFF_0FFF);
                    break;
                case NvmeRegister.AdminSubmissionQueue:
                    WriteHalf(ref _adminSubmissionQueue, 0, value, QueueAddressMask);
                    break;
                case NvmeRegister.AdminSubmissionQueue + 4:
                    WriteHalf(ref _adminSubmissionQueue, 32, value, QueueAddressMask);
                    break;
                case NvmeRegister.AdminCompletionQueue:
                    WriteHalf(ref _adminCompletionQueue, 0, value, QueueAddressMask);
                    break;
                case NvmeRegister.AdminCompletionQueue + 4:
                    WriteHalf(ref _adminCompletionQueue, 32, value, QueueAddressMask);
                    break;
                default:
                    break; // read-only or reserved
            }
        }
    }

    private static void WriteHalf(ref ulong register, int shift, uint value, ulong mask) =>
        Volatile.Write(ref register, ((register & ~(0xFFFF_FFFFUL << shift)) | ((ulong)value << shift)) & mask);

    /// <summary>Doorbell 2n is the tail of submission queue n, 2n + 1 the head of completion queue n.</summary>
    private void RingDoorbell(ulong index, uint value)
    {
        if ((Volatile.Read(ref _status) & NvmeRegister.Ready) == 0) { return; }
        int queue = (int)Math.Min(index >> 1, (ulong)_submissions.Length);
        bool? accepted = queue == _submissions.Length ? null
            : (index & 1) == 0 ? Volatile.Read(ref _submissions[queue])?.TrySetTail(value & 0xFFFF)
            : Volatile.Read(ref _completions[queue])?.TrySetHead(value & 0xFFFF);
        if (accepted != true)
        {
            Interlocked.Or(ref _doorbellErrors, accepted is null ? RegisterErrorBit : ValueErrorBit);
        }
        else if ((index & 1) != 0)
        {
            UpdatePin();
        }
        Wake();
    }

    private const uint RegisterErrorBit = 1;
    private const uint ValueErrorBit = 2;

    private bool TakeDoorbellErrors()
    {
        if (Volatile.Read(ref _doorbellErrors) == 0) { return false; }
        uint errors = Interlocked.Exchange(ref _doorbellErrors, 0);
        if ((errors & RegisterErrorBit) != 0) { RaiseEvent(AsyncEvents.InvalidDoorbellRegister); }
        if ((errors & ValueErrorBit) != 0) { RaiseEvent(AsyncEvents.InvalidDoorbellValue); }
        return true;
    }
}
