namespace Sluice.Machines.Nvme;

// Commands that move blocks: through the staging buffer, a piece at a time, so that a command of 256 MiB keeps neither
// a reset nor an invalidation waiting. What one piece holds is done at once.
public sealed partial class NvmeModel
{
    private const int MoveStep = 1 << 20;
    private byte[]? _compared;
    private Moving _moving;

    /// <summary>A read, write or compare that is under way.</summary>
    private struct Moving
    {
        public SubmissionQueue? Queue;
        public SubmissionEntry Command;
        public long Offset;
        public long Left;

        public readonly bool IsActive => Queue is not null;
    }

    /// <summary>Checks length, blocks and PRP entries, in this order, and moves; null when more is to be
    /// moved.</summary>
    private NvmeStatus? Move(SubmissionQueue queue, in SubmissionEntry command)
    {
        long bytes = (long)command.BlockCount << _options.BlockSizeLog2;
        if (bytes > _options.MaxTransferBytes) { return Invalid; }
        if (!AreBlocks(command.StartBlock, command.BlockCount))
        {
            return NvmeStatus.BlockOutOfRange | NvmeStatus.DoNotRetry;
        }
        NvmeStatus status = _transfer.Prepare(Dma, command, (int)bytes, NvmeRegister.PageLog2(_applied));
        if (status != NvmeStatus.Success) { return status; }
        if ((IoOpcode)command.Opcode == IoOpcode.Write && _medium.IsReadOnly)
        {
            return NvmeStatus.NamespaceWriteProtected | NvmeStatus.DoNotRetry;
        }
        long offset = (long)command.StartBlock << _options.BlockSizeLog2;
        int first = (int)Math.Min(bytes, _staging.Length);
        status = MovePiece(command, offset, first, isLast: first == bytes);
        if (status != NvmeStatus.Success || first == bytes) { return status; }
        _moving = new() { Queue = queue, Command = command, Offset = offset + first, Left = bytes - first };
        return null;
    }

    /// <summary>A step of a long transfer; the last one answers the command.</summary>
    private bool MoveSome()
    {
        int length = (int)Math.Min(_moving.Left, _staging.Length);
        long offset = _moving.Offset;
        (_moving.Offset, _moving.Left) = (offset + length, _moving.Left - length);
        NvmeStatus status = MovePiece(_moving.Command, offset, length, isLast: _moving.Left == 0);
        if (status == NvmeStatus.Success && _moving.Left > 0) { return true; }
        (SubmissionQueue queue, SubmissionEntry command) = (_moving.Queue!, _moving.Command);
        _moving = default;
        Complete(queue, command, status);
        return true;
    }

    private NvmeStatus MovePiece(in SubmissionEntry command, long offset, int length, bool isLast)
    {
        Span<byte> piece = _staging.AsSpan(0, length);
        return (IoOpcode)command.Opcode switch
        {
            IoOpcode.Read => ReadPiece(offset, piece),
            IoOpcode.Write => WritePiece(command, offset, piece, isLast),
            _ => ComparePiece(offset, piece),
        };
    }

    private NvmeStatus ReadPiece(long offset, Span<byte> piece)
    {
        NvmeStatus status = Translate(_medium.Read(offset, piece));
        if (status != NvmeStatus.Success) { return status; }
        if (!_transfer.ToHost(Dma, piece)) { return NvmeStatus.DataTransferError; }
        _logs.CountRead((uint)piece.Length >> 9);
        return NvmeStatus.Success;
    }

    private NvmeStatus WritePiece(in SubmissionEntry command, long offset, Span<byte> piece, bool isLast)
    {
        const uint ForceUnitAccess = 1 << 30;
        if (!_transfer.FromHost(Dma, piece)) { return NvmeStatus.DataTransferError; }
        NvmeStatus status = Translate(_medium.Write(offset, piece));
        if (status != NvmeStatus.Success) { return status; }
        _logs.CountWrite((uint)piece.Length >> 9);
        bool mayStayCached = _features.HasWriteCache && (command.Dword12 & ForceUnitAccess) == 0;
        return mayStayCached || !isLast ? NvmeStatus.Success : Translate(_medium.Flush());
    }

    private NvmeStatus ComparePiece(long offset, Span<byte> piece)
    {
        NvmeStatus status = Translate(_medium.Read(offset, piece));
        if (status != NvmeStatus.Success) { return status; }
        Span<byte> given = (_compared ??= new byte[_staging.Length]).AsSpan(0, piece.Length);
        if (!_transfer.FromHost(Dma, given)) { return NvmeStatus.DataTransferError; }
        return piece.SequenceEqual(given) ? NvmeStatus.Success : NvmeStatus.CompareFailure | NvmeStatus.DoNotRetry;
    }
}
