using System.Buffers.Binary;

namespace Sluice.Machines.Nvme;

// The NVM command set.
public sealed partial class NvmeModel
{
    private enum IoOpcode : byte
    {
        Flush = 0x00,
        Write = 0x01,
        Read = 0x02,
        Compare = 0x05,
        WriteZeroes = 0x08,
        DatasetManagement = 0x09,
    }

    private const int ZeroStep = 1 << 20;
    private const int LeastHoleCost = 1 << 16;
    private const int HoleCostLog2 = 6;
    private const int RangeBytes = 16;
    private const int MaxRanges = 256;
    private readonly byte[] _zeros = new byte[1 << 16];
    private readonly byte[] _ranges = new byte[MaxRanges * RangeBytes];
    private Zeroing _zeroing;

    /// <summary>
    /// A command that zeroes blocks over many steps, so that a reset and other work are never kept waiting.
    /// </summary>
    private struct Zeroing
    {
        public SubmissionQueue? Queue;
        public SubmissionEntry Command;
        public int Ranges;
        public int NextRange;
        public long Offset;
        public long End;

        public readonly bool IsActive => Queue is not null;
    }

    /// <summary>Null when the answer comes later.</summary>
    private NvmeStatus? ExecuteIo(SubmissionQueue queue, in SubmissionEntry command)
    {
        var opcode = (IoOpcode)command.Opcode;
        bool isBroadcastFlush = opcode == IoOpcode.Flush && command.Namespace == BroadcastNamespace;
        if (command.Namespace != 1 && !isBroadcastFlush && opcode <= IoOpcode.DatasetManagement)
        {
            return NvmeStatus.InvalidNamespace | NvmeStatus.DoNotRetry;
        }
        return opcode switch
        {
            IoOpcode.Read or IoOpcode.Write or IoOpcode.Compare => Move(queue, command),
            IoOpcode.Flush => Translate(_medium.Flush()),
            IoOpcode.WriteZeroes => WriteZeroes(queue, command),
            IoOpcode.DatasetManagement => Deallocate(queue, command),
            _ => NvmeStatus.InvalidOpcode | NvmeStatus.DoNotRetry,
        };
    }

    private bool AreBlocks(ulong first, uint count) => first <= _blocks && count <= _blocks - first;

    private NvmeStatus? WriteZeroes(SubmissionQueue queue, in SubmissionEntry command)
    {
        if (!AreBlocks(command.StartBlock, command.BlockCount))
        {
            return NvmeStatus.BlockOutOfRange | NvmeStatus.DoNotRetry;
        }
        if (_medium.IsReadOnly) { return NvmeStatus.NamespaceWriteProtected | NvmeStatus.DoNotRetry; }
        long first = (long)command.StartBlock << _options.BlockSizeLog2;
        _zeroing = new()
        {
            Queue = queue,
            Command = command,
            Offset = first,
            End = first + ((long)command.BlockCount << _options.BlockSizeLog2),
        };
        return null;
    }

    private NvmeStatus? Deallocate(SubmissionQueue queue, in SubmissionEntry command)
    {
        const uint DeallocateAttribute = 1 << 2;
        int count = (int)(command.Dword10 & 0xFF) + 1;
        Span<byte> ranges = _ranges.AsSpan(0, count * RangeBytes);
        NvmeStatus status = _transfer.Prepare(Dma, command, ranges.Length, NvmeRegister.PageLog2(_applied));
        if (status != NvmeStatus.Success) { return status; }
        if (!_transfer.FromHost(Dma, ranges)) { return NvmeStatus.DataTransferError; }
        for (int i = 0; i < count; i++)
        {
            (ulong first, uint blocks) = Range(i);
            if (!AreBlocks(first, blocks)) { return NvmeStatus.BlockOutOfRange | NvmeStatus.DoNotRetry; }
        }
        // The other attributes are hints.
        if ((command.Dword11 & DeallocateAttribute) == 0) { return NvmeStatus.Success; }
        if (_medium.IsReadOnly) { return NvmeStatus.NamespaceWriteProtected | NvmeStatus.DoNotRetry; }
        // Writing zeros instead would take as long as the ranges are large: the namespace, 256 times over.
        if (!_medium.CanDeallocate) { return NvmeStatus.Success; }
        _zeroing = new() { Queue = queue, Command = command, Ranges = count };
        return null;
    }

    private (ulong First, uint Blocks) Range(int index)
    {
        ReadOnlySpan<byte> range = _ranges.AsSpan(index * RangeBytes, RangeBytes);
        ulong first = BinaryPrimitives.ReadUInt64LittleEndian(range[8..]);
        uint blocks = BinaryPrimitives.ReadUInt32LittleEndian(range[4..]);
        return (first, blocks);
    }

    /// <summary>
    /// Sixteen holes, of 64 MiB altogether: a medium in memory fills them. Or a mebibyte of zeros where there are no
    /// holes.
    /// </summary>
    private bool ZeroSome()
    {
        NvmeStatus status = NvmeStatus.Success;
        int budget = ZeroStep;
        while (status == NvmeStatus.Success && budget > 0)
        {
            if (_zeroing.Offset == _zeroing.End)
            {
                if (_zeroing.NextRange == _zeroing.Ranges) { break; }
                (ulong first, uint blocks) = Range(_zeroing.NextRange++);
                _zeroing.Offset = (long)first << _options.BlockSizeLog2;
                _zeroing.End = _zeroing.Offset + ((long)blocks << _options.BlockSizeLog2);
                continue;
            }
            long length = _zeroing.End - _zeroing.Offset;
            if (_medium.CanDeallocate)
            {
                length = Math.Min(length, (long)budget << HoleCostLog2);
                status = Translate(_medium.Deallocate(_zeroing.Offset, length));
                budget -= Math.Max(LeastHoleCost, (int)(length >> HoleCostLog2));
            }
            else
            {
                length = Math.Min(length, Math.Min(budget, _zeros.Length));
                status = Translate(_medium.Write(_zeroing.Offset, _zeros.AsSpan(0, (int)length)));
                budget -= (int)length;
            }
            _zeroing.Offset += length;
        }
        if (status == NvmeStatus.Success && budget <= 0) { return true; }
        (SubmissionQueue queue, SubmissionEntry command) = (_zeroing.Queue!, _zeroing.Command);
        _zeroing = default;
        Complete(queue, command, status);
        return true;
    }

    private static NvmeStatus Translate(MediumStatus status) => status switch
    {
        MediumStatus.Done => NvmeStatus.Success,
        MediumStatus.ReadError => NvmeStatus.UnrecoveredReadError,
        MediumStatus.ReadOnly => NvmeStatus.NamespaceWriteProtected | NvmeStatus.DoNotRetry,
        _ => NvmeStatus.WriteFault,
    };
}
