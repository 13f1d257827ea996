namespace Sluice.Machines.Nvme;

// Enable, disable, shut down, fail. All on the device's thread.
public sealed partial class NvmeModel
{
    private volatile bool _resetRequested;
    private uint _applied;
    private bool _isRunning;

    /// <summary>Carries out what the driver last wrote to CC.</summary>
    private bool ApplyConfiguration()
    {
        if (_resetRequested)
        {
            (_resetRequested, _isDead, _applied) = (false, false, 0);
            Disable();
        }
        uint wanted = Volatile.Read(ref _configuration);
        uint before = _applied;
        if (wanted == before || _isDead) { return false; }
        _applied = wanted;
        bool enable = (wanted & NvmeRegister.Enable) != 0;
        if (!enable && (before & NvmeRegister.Enable) != 0)
        {
            ResetRegisters(wanted);
            Disable();
            return true;
        }
        if (enable && (before & NvmeRegister.Enable) == 0) { Enable(wanted); }
        uint shutdown = NvmeRegister.Shutdown(wanted);
        if (shutdown != 0 && shutdown != NvmeRegister.Shutdown(before)) { Shutdown(); }
        if (shutdown == 0) { SetStatus(0, NvmeRegister.ShutdownMask); }
        return true;
    }

    /// <summary>A controller reset: CC and the interrupt mask too are as after power-on (3.1.5, CC.EN).</summary>
    private void ResetRegisters(uint expected)
    {
        lock (_registers)
        {
            _applied = 0;
            Volatile.Write(ref _interruptMask, 0);
            // Unless the driver has written again already: that is carried out by the next step.
            if (_configuration == expected) { Volatile.Write(ref _configuration, 0); }
        }
    }

    private void Enable(uint configuration)
    {
        uint attributes;
        ulong submissions, completions;
        lock (_registers)
        {
            (attributes, submissions, completions) =
                (_adminQueueAttributes, _adminSubmissionQueue, _adminCompletionQueue);
        }
        int pageLog2 = NvmeRegister.PageLog2(configuration);
        uint submissionSize = (attributes & 0xFFF) + 1;
        uint completionSize = (attributes >> 16) + 1;
        if (pageLog2 > NvmeRegister.MaxPageLog2
            || NvmeRegister.CommandSet(configuration) != 0
            || NvmeRegister.Arbitration(configuration) != 0
            || submissionSize < 2
            || completionSize < 2
            || !new LogicalAddress(submissions).IsAligned(pageLog2)
            || !new LogicalAddress(completions).IsAligned(pageLog2))
        {
            Fail();
            return;
        }
        CompletionQueue ring = new(0, new(completions), completionSize, vector: 0, interrupts: true) { Users = 1 };
        Volatile.Write(ref _completions[0], ring);
        Volatile.Write(ref _submissions[0], new(0, new(submissions), submissionSize, ring));
        _isRunning = true;
        SetStatus(NvmeRegister.Ready, 0);
    }

    /// <summary>A controller reset: forgets queues and features, keeps the admin queue registers.</summary>
    private void Disable()
    {
        Forget();
        SetStatus(0, NvmeRegister.Ready | NvmeRegister.FatalStatus | NvmeRegister.ShutdownMask);
    }

    private void Forget()
    {
        _isRunning = false;
        Array.Clear(_submissions);
        Array.Clear(_completions);
        _held.Clear();
        _events.Reset();
        _features.Reset();
        (_zeroing, _moving) = (default, default);
        (_completesTwice, _echo) = (false, null);
        (_interruptsDue, _nextQueue) = (0, 0);
        Interlocked.Exchange(ref _doorbellErrors, 0);
        UpdatePin();
    }

    private void Shutdown()
    {
        _ = _medium.Flush(); // a shutdown has no way to tell that it failed
        SetStatus(NvmeRegister.ShutdownComplete, NvmeRegister.ShutdownMask);
    }

    /// <summary>Stops with CSTS.CFS: only a reset helps.</summary>
    private void Fail()
    {
        _isRunning = false;
        SetStatus(NvmeRegister.FatalStatus, 0);
    }

    private void SetStatus(uint set, uint clear) => Volatile.Write(ref _status, (_status & ~clear) | set);

    /// <summary>
    /// A function level reset: registers are as after power-on at once, the device's thread stops its work a step
    /// later.
    /// </summary>
    public override void Reset()
    {
        lock (_registers)
        {
            (_adminQueueAttributes, _adminSubmissionQueue, _adminCompletionQueue) = (0, 0, 0);
            Volatile.Write(ref _configuration, 0);
            Volatile.Write(ref _interruptMask, 0);
        }
        _resetRequested = true;
        Wake();
    }

    /// <summary>Closes the medium.</summary>
    public void Dispose() => _medium.Dispose();

    private const int MaxHeld = 4096;

    private readonly record struct HeldCommand(SubmissionQueue Queue, ushort Command, bool IsDeaf);

    private bool MisbehavesOn(
        Func<NvmeCommandInfo, NvmeMisbehaviour> misbehave, SubmissionQueue queue, in SubmissionEntry command)
    {
        NvmeMisbehaviour how = misbehave(new(queue.Id, command.Opcode, command.CommandId));
        switch (how)
        {
            case NvmeMisbehaviour.Hold or NvmeMisbehaviour.HoldDeaf when _held.Count < MaxHeld:
                _held.Add(new(queue, command.CommandId, how == NvmeMisbehaviour.HoldDeaf));
                return true;
            case NvmeMisbehaviour.CompleteTwice:
                _completesTwice = true;
                return false;
            case NvmeMisbehaviour.Die:
                _isDead = true;
                return true;
            case NvmeMisbehaviour.Fail or NvmeMisbehaviour.Hold or NvmeMisbehaviour.HoldDeaf:
                Fail();
                return true;
            default:
                return false;
        }
    }
}
