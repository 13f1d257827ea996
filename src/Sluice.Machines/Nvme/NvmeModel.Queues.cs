namespace Sluice.Machines.Nvme;

// I/O queues come and go.
public sealed partial class NvmeModel
{
    private const uint PhysicallyContiguous = 1;
    private const NvmeStatus NoSuchQueue = NvmeStatus.InvalidQueueIdentifier | NvmeStatus.DoNotRetry;

    private NvmeStatus CreateCompletionQueue(in SubmissionEntry command)
    {
        const uint InterruptsEnabled = 2;
        (uint id, uint size) = (command.Dword10 & 0xFFFF, (command.Dword10 >> 16) + 1);
        int vector = (int)(command.Dword11 >> 16);
        if (id == 0 || id >= _completions.Length || _completions[id] is not null) { return NoSuchQueue; }
        // Without MSI-X there is the pin alone, which is vector 0.
        bool hasVector = vector < (IsMsixEnabled ? _completions.Length : 1);
        NvmeStatus status = CheckRing(command, size, hasVector);
        if (status != NvmeStatus.Success) { return status; }
        Volatile.Write(
            ref _completions[id],
            new((ushort)id, new(command.Prp1), size, vector, (command.Dword11 & InterruptsEnabled) != 0));
        return NvmeStatus.Success;
    }

    private NvmeStatus CreateSubmissionQueue(in SubmissionEntry command)
    {
        (uint id, uint size) = (command.Dword10 & 0xFFFF, (command.Dword10 >> 16) + 1);
        uint completions = command.Dword11 >> 16;
        if (id == 0 || id >= _submissions.Length || _submissions[id] is not null) { return NoSuchQueue; }
        if (completions == 0 || completions >= _completions.Length) { return NoSuchQueue; }
        if (_completions[completions] is not { } ring)
        {
            return NvmeStatus.CompletionQueueInvalid | NvmeStatus.DoNotRetry;
        }
        NvmeStatus status = CheckRing(command, size);
        if (status != NvmeStatus.Success) { return status; }
        ring.Users++;
        Volatile.Write(ref _submissions[id], new((ushort)id, new(command.Prp1), size, ring));
        return NvmeStatus.Success;
    }

    private NvmeStatus CheckRing(in SubmissionEntry command, uint size, bool hasVector = true)
    {
        if (size < 2 || size > _options.MaxQueueEntries) { return NvmeStatus.InvalidQueueSize | NvmeStatus.DoNotRetry; }
        if (!new LogicalAddress(command.Prp1).IsAligned(NvmeRegister.PageLog2(_applied)))
        {
            return NvmeStatus.InvalidPrpOffset | NvmeStatus.DoNotRetry;
        }
        if (!hasVector) { return NvmeStatus.InvalidInterruptVector | NvmeStatus.DoNotRetry; }
        bool isWellFormed = (command.Dword11 & PhysicallyContiguous) != 0 && NvmeRegister.HasRightEntrySizes(_applied);
        return isWellFormed ? NvmeStatus.Success : Invalid;
    }

    /// <summary>
    /// Commands still held by the queue are aborted; those not fetched yet are forgotten, as specified.
    /// </summary>
    private NvmeStatus DeleteSubmissionQueue(in SubmissionEntry command)
    {
        uint id = command.Dword10 & 0xFFFF;
        if (id == 0 || id >= _submissions.Length || _submissions[id] is not { } queue) { return NoSuchQueue; }
        for (int i = _held.Count - 1; i >= 0; i--)
        {
            if (_held[i].Queue != queue) { continue; }
            Post(queue, _held[i].Command, NvmeStatus.AbortedSubmissionQueueDeletion, 0);
            _held.RemoveAt(i);
        }
        queue.Completions.Users--;
        Volatile.Write(ref _submissions[id], null);
        return NvmeStatus.Success;
    }

    private NvmeStatus DeleteCompletionQueue(in SubmissionEntry command)
    {
        uint id = command.Dword10 & 0xFFFF;
        if (id == 0 || id >= _completions.Length || _completions[id] is not { } ring) { return NoSuchQueue; }
        if (ring.Users != 0) { return NvmeStatus.InvalidQueueDeletion; } // it works once its users are gone
        Volatile.Write(ref _completions[id], null);
        UpdatePin();
        return NvmeStatus.Success;
    }
}
