namespace Sluice.Machines.Nvme;

// The admin command set.
public sealed partial class NvmeModel
{
    private enum AdminOpcode : byte
    {
        DeleteSubmissionQueue = 0x00,
        CreateSubmissionQueue = 0x01,
        GetLogPage = 0x02,
        DeleteCompletionQueue = 0x04,
        CreateCompletionQueue = 0x05,
        Identify = 0x06,
        Abort = 0x08,
        SetFeatures = 0x09,
        GetFeatures = 0x0A,
        AsyncEventRequest = 0x0C,
    }

    private const uint BroadcastNamespace = 0xFFFF_FFFF;
    private const NvmeStatus Invalid = NvmeStatus.InvalidField | NvmeStatus.DoNotRetry;

    /// <summary>Null when the answer comes later.</summary>
    private NvmeStatus? ExecuteAdmin(SubmissionQueue queue, in SubmissionEntry command, out uint result)
    {
        result = 0;
        switch ((AdminOpcode)command.Opcode)
        {
            case AdminOpcode.Identify: return Identify(command);
            case AdminOpcode.CreateCompletionQueue: return CreateCompletionQueue(command);
            case AdminOpcode.CreateSubmissionQueue: return CreateSubmissionQueue(command);
            case AdminOpcode.DeleteCompletionQueue: return DeleteCompletionQueue(command);
            case AdminOpcode.DeleteSubmissionQueue: return DeleteSubmissionQueue(command);
            case AdminOpcode.GetFeatures: return GetFeatures(command, out result);
            case AdminOpcode.SetFeatures: return SetFeatures(command, out result);
            case AdminOpcode.GetLogPage: return GetLogPage(command);
            case AdminOpcode.Abort: return Abort(command, out result);
            case AdminOpcode.AsyncEventRequest:
                if (!_events.TryAddRequest(command.CommandId))
                {
                    return NvmeStatus.AsyncEventLimitExceeded; // there is room again after the next event
                }
                DeliverEvents(queue);
                return null;
            default: return NvmeStatus.InvalidOpcode | NvmeStatus.DoNotRetry;
        }
    }

    private NvmeStatus Identify(in SubmissionEntry command)
    {
        Span<byte> page = _staging.AsSpan(0, IdentifyData.Bytes);
        switch ((IdentifyData.Page)command.Dword10)
        {
            case IdentifyData.Page.Controller:
                IdentifyData.WriteController(page, _options);
                break;
            case IdentifyData.Page.Namespace or IdentifyData.Page.NamespaceDescriptors when command.Namespace != 1:
                return NvmeStatus.InvalidNamespace | NvmeStatus.DoNotRetry;
            case IdentifyData.Page.Namespace:
                IdentifyData.WriteNamespace(page, _blocks, _options.BlockSizeLog2, _medium);
                break;
            case IdentifyData.Page.NamespaceDescriptors:
                IdentifyData.WriteDescriptors(page);
                break;
            case IdentifyData.Page.ActiveNamespaces when command.Namespace >= BroadcastNamespace - 1:
                return NvmeStatus.InvalidNamespace | NvmeStatus.DoNotRetry;
            case IdentifyData.Page.ActiveNamespaces:
                IdentifyData.WriteActiveNamespaces(page, command.Namespace);
                break;
            default:
                return Invalid;
        }
        return SendToHost(command, page);
    }

    private NvmeStatus GetLogPage(in SubmissionEntry command)
    {
        byte log = (byte)command.Dword10;
        ulong length = (((command.Dword10 >> 16) | ((ulong)(command.Dword11 & 0xFFFF) << 16)) + 1) * sizeof(uint);
        ulong offset = command.Dword12 | ((ulong)command.Dword13 << 32);
        const uint RetainEvent = 1 << 15;
        int size = _logs.Write(log, _staging.AsSpan(0, 512), _options.Temperature, IsTooHot);
        if (size == 0) { return NvmeStatus.InvalidLogPage | NvmeStatus.DoNotRetry; }
        if (offset > (ulong)size || (offset & 3) != 0) { return Invalid; }
        if ((command.Dword10 & RetainEvent) == 0) { _events.Acknowledge(log); }
        int count = (int)Math.Min(length, (ulong)size - offset);
        NvmeStatus status = SendToHost(command, _staging.AsSpan((int)offset, count));
        DeliverEvents(_submissions[0]!);
        return status;
    }

    private NvmeStatus GetFeatures(in SubmissionEntry command, out uint result) =>
        _features.Get((byte)command.Dword10, (command.Dword10 >> 8) & 7, command.Dword11, out result);

    private NvmeStatus SetFeatures(in SubmissionEntry command, out uint result)
    {
        result = 0;
        byte id = (byte)command.Dword10;
        const uint Save = 1u << 31;
        const NvmeStatus NotNamespaceSpecific = (NvmeStatus)0x10F;
        if (!NvmeFeatures.IsKnown(id)) { return Invalid; }
        if ((command.Dword10 & Save) != 0) { return NvmeStatus.FeatureNotSaveable | NvmeStatus.DoNotRetry; }
        if (command.Namespace is not (0 or BroadcastNamespace))
        {
            if (command.Namespace != 1) { return NvmeStatus.InvalidNamespace | NvmeStatus.DoNotRetry; }
            if (!NvmeFeatures.IsNamespaceSpecific(id)) { return NotNamespaceSpecific | NvmeStatus.DoNotRetry; }
        }
        if (id == NvmeFeatures.NumberOfQueues && HasIoQueues)
        {
            return NvmeStatus.CommandSequenceError | NvmeStatus.DoNotRetry;
        }
        NvmeStatus status = _features.Set(id, command.Dword11, out result);
        if (IsTooHot && _features.ReportsTemperature) { RaiseEvent(AsyncEvents.TemperatureThreshold); }
        return status;
    }

    private bool IsTooHot => _features.IsTooHot(_options.Temperature);

    private bool HasIoQueues =>
        _completions.AsSpan(1).ContainsAnyExcept((CompletionQueue?)null)
        || _submissions.AsSpan(1).ContainsAnyExcept((SubmissionQueue?)null);

    /// <summary>
    /// Commands run one after the other, so that an abort only ever finds event requests, and commands that
    /// <see cref="Misbehave"/> held. Bit 0 of the result says "not aborted".
    /// </summary>
    private NvmeStatus Abort(in SubmissionEntry command, out uint result)
    {
        (ushort queue, ushort target) = ((ushort)command.Dword10, (ushort)(command.Dword10 >> 16));
        result = 1;
        if (queue >= _submissions.Length || _submissions[queue] is not { } submissions) { return Invalid; }
        if (queue == 0 && _events.TryRemoveRequest(target))
        {
            result = 0;
            Post(submissions, target, NvmeStatus.AbortRequested, 0);
            return NvmeStatus.Success;
        }
        int index = _held.FindIndex(h => h.Queue == submissions && h.Command == target && !h.IsDeaf);
        if (index < 0) { return NvmeStatus.Success; }
        result = 0;
        _held.RemoveAt(index);
        Post(submissions, target, NvmeStatus.AbortRequested, 0);
        return NvmeStatus.Success;
    }

    private void RaiseEvent(uint what)
    {
        _events.Raise(what);
        if (_submissions[0] is { } queue) { DeliverEvents(queue); }
    }

    private void DeliverEvents(SubmissionQueue queue)
    {
        while (_events.TryTake(out ushort command, out uint what)) { Post(queue, command, NvmeStatus.Success, what); }
    }

    private NvmeStatus SendToHost(in SubmissionEntry command, ReadOnlySpan<byte> data)
    {
        NvmeStatus status = _transfer.Prepare(Dma, command, data.Length, NvmeRegister.PageLog2(_applied));
        if (status != NvmeStatus.Success) { return status; }
        return _transfer.ToHost(Dma, data) ? NvmeStatus.Success : NvmeStatus.DataTransferError;
    }
}
