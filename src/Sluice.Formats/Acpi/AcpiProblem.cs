namespace Sluice.Formats.Acpi;

/// <summary>
/// What can be wrong with firmware tables. The numbers are stable: they are printed and searched for.
/// </summary>
public enum AcpiProblem
{
    /// <summary>
    /// No root pointer (RSDP) with a valid checksum where the host says, or in the areas that are searched for one.
    /// </summary>
    NoRootPointer = 1,

    /// <summary>The bytes of a table do not sum to 0. It is read all the same.</summary>
    BadChecksum = 2,

    /// <summary>A table, or its end, lies where there is no memory.</summary>
    Unreachable = 3,

    /// <summary>A table is shorter than its own header, or than the fixed part of its kind.</summary>
    TableTooShort = 4,

    /// <summary>A table says it is longer than any real one; nothing of it is read.</summary>
    TableTooLong = 5,

    /// <summary>A table has another signature than where it was found demands.</summary>
    UnexpectedSignature = 6,

    /// <summary>
    /// A structure is shorter than its fixed part. If it is shorter than its own head, what follows it cannot be found.
    /// </summary>
    StructureTooShort = 7,

    /// <summary>A structure reaches beyond what holds it; the part inside is read.</summary>
    StructureTooLong = 8,

    /// <summary>A structure of a type that this software does not know; skipped by its length.</summary>
    UnknownStructure = 9,

    /// <summary>A device scope of a type that this software does not know; kept as it is.</summary>
    UnknownScope = 10,

    /// <summary>A device scope's path is empty, or ends inside a step.</summary>
    BadPath = 11,

    /// <summary>An address that must lie on a page does not.</summary>
    NotOnPage = 12,

    /// <summary>A range ends before it begins.</summary>
    ReversedRange = 13,

    /// <summary>Bytes after the last structure that are too few to be one.</summary>
    TrailingBytes = 14,

    /// <summary>A name without its terminating zero.</summary>
    UnterminatedName = 15,

    /// <summary>A remapping unit whose registers lie at address 0, or at all ones.</summary>
    NoRegisters = 16,

    /// <summary>More tables or structures than any real firmware has; the rest is not read.</summary>
    TooMany = 17,

    /// <summary>A width of physical addresses that no machine has: below 32 bits or above 52.</summary>
    BadAddressWidth = 18,

    /// <summary>A table that says it is longer than the bytes at hand; those are read.</summary>
    CutShort = 19,
}

/// <summary>One thing wrong with firmware tables.</summary>
/// <param name="Problem">What.</param>
/// <param name="Table">The table's signature, as <c>DMAR</c>.</param>
/// <param name="Offset">Where in the table, in bytes from its start.</param>
/// <param name="Detail">The value at fault, in words.</param>
public readonly record struct AcpiDiagnostic(AcpiProblem Problem, string Table, int Offset, string Detail)
{
    /// <summary>As <c>ACPI007 DMAR+0x30: a structure of 2 bytes</c>.</summary>
    public override string ToString() => $"ACPI{(int)Problem:D3} {Table}+0x{Offset:X}: {Detail}";
}
